"""Claude Code's own tools, where the operator has turned them on: the real CLI runs them.

The folder in which they run is one that would do harm if it were taken for a project of the
user's own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.serve import _announce
from bridge.core.contract.request import Message, TextPart, Tool, ToolResultPart
from bridge.simulator import Exchange
from bridge.v1 import completion_pb2 as pb
from tests.integration.parity.scenarios import REQUIRED, new_marker
from tests.integration.parity.test_continuing import session_of
from tests.support import hostile
from tests.support.apis import APIS, Scenario
from tests.support.harness import LoopThread, RunningBridge, settings_for_tests, sim, user
from tests.support.replies import Reply

RULES = "Read,Grep,Write,Bash(git log:*)"
OWN = Tool("Read", "The caller's.", {"type": "object", "properties": {"at": {"type": "string"}}})
INSIDE, OUTSIDE = "what-is-inside", "what-is-outside"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools").resolve()


@pytest.fixture(scope="module")
def shared(place: Path) -> Path:
    """Make the folder that the tools run in."""
    shared = place / "shared"
    hostile.write(place / "unused", shared, place / "markers", {})
    (shared / "note.txt").write_text(INSIDE)
    (place / "secret.txt").write_text(OUTSIDE)
    (shared / "link.txt").symlink_to(place / "secret.txt")
    (shared / "linked").symlink_to(place)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run((*git, "init", "-q"), cwd=shared, check=True)
    subprocess.run((*git, "commit", "-qm", "committed", "--allow-empty"), cwd=shared, check=True)
    return shared


@pytest.fixture(scope="module")
def bridge(place: Path, shared: Path, loop_thread: LoopThread) -> Iterator[RunningBridge]:
    settings = settings_for_tests(
        place / "state", bridge_claude_tools=RULES, bridge_claude_folder=shared, bridge_spares=2
    )
    running = RunningBridge(settings, loop_thread)
    running.start()
    yield running
    running.stop()
    assert hostile.ran(place / "markers") == set()
    assert not any(e.contains("LEAK") for e in running.simulator.ledger.exchanges())


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def calling(name: str, **input: Any) -> dict[str, Any]:
    return {"name": name, "input": input}


def ask(
    bridge: RunningBridge, api: str, *messages: Message, **more: Any
) -> tuple[Reply, list[Exchange]]:
    """Ask, and give the answer and all that reached the model for it."""
    marker = new_marker()
    number = max((e.number for e in bridge.simulator.ledger.exchanges()), default=0)
    reply = APIS[api](bridge, Scenario("", messages, **more), marker)
    assert reply.failure is None, reply.failure
    bridge.wait_until_settled()
    return reply, [e for e in bridge.simulator.ledger.exchanges() if e.number > number]


def result_blocks(exchange: Exchange) -> list[dict[str, Any]]:
    """What the tools gave, as the model got it."""
    return [
        block
        for message in exchange.messages
        if message["role"] == "user"
        for block in message["content"]
        if block["type"] == "tool_result"
    ]


def results(exchange: Exchange) -> list[str]:
    """The same, each as JSON text."""
    return [json.dumps(block["content"]) for block in result_blocks(exchange)]


def test_an_answer_continues_through_the_calls_of_claudes_own_tools(
    bridge: RunningBridge, shared: Path, api: str
) -> None:
    answer, exchanges = ask(
        bridge,
        api,
        user(
            sim(
                turns=[
                    {"text": "I look.", "tools": [calling("Read", file_path=f"{shared}/note.txt")]},
                    {"tools": [calling("Grep", pattern="inside", output_mode="content")]},
                    {"tools": [calling("Bash", command="git log --format=%s")]},
                    {"text": "It is there."},
                ]
            )
        ),
    )
    assert (answer.text, answer.finish, answer.calls) == ("I look.\n\nIt is there.", "stop", [])
    assert len(exchanges) == 4
    read, found, log = results(exchanges[-1])
    assert INSIDE in read
    assert "note.txt" in found
    assert "committed" in log
    spent = [exchange.usage or {} for exchange in exchanges]
    kinds = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert answer.usage.prompt_tokens == sum(usage[kind] for usage in spent for kind in kinds)
    assert answer.usage.output_tokens == sum(usage["output_tokens"] for usage in spent)


def test_what_no_rule_allows_is_denied_and_the_answer_continues(
    bridge: RunningBridge, place: Path, shared: Path
) -> None:
    denied = [
        calling("Read", file_path=f"{place}/secret.txt"),
        calling("Read", file_path=f"{shared}/../secret.txt"),
        calling("Read", file_path=f"{shared}/link.txt"),
        calling("Read", file_path=f"{shared}/linked/secret.txt"),
        calling("Read", file_path="/etc/passwd"),
        calling("Read", file_path="~/.claude/settings.json"),
        calling("Read", file_path="/proc/self/environ"),
        calling("Grep", pattern="outside", path=str(place), output_mode="content"),
        calling("Grep", pattern="outside", path=f"{shared}/linked", output_mode="content"),
        calling("Write", file_path=f"{place}/written", content="x"),
        calling("Write", file_path=f"{shared}/linked/written", content="x"),
        calling("Write", file_path=f"{shared}/.claude/settings.json", content="{}"),
        calling("Write", file_path=f"{shared}/.git/hooks/pre-commit", content="x"),
        calling("Bash", command="touch written"),
        calling("Bash", command="env"),
        calling("Bash", command=f"git log; cat {place}/secret.txt"),
        calling("Bash", command=f"git log $(cat {place}/secret.txt)"),
        calling("Bash", command=f"git log > {place}/written"),
        calling("Bash", command="git log", run_in_background=True),
    ]
    before = (shared / ".claude" / "settings.json").read_text()
    question = user(sim(turns=[{"tools": denied}, {"text": "no"}]))
    answer, (_, last) = ask(bridge, "http", question)
    assert (answer.text, answer.finish) == ("no", "stop")
    refused = result_blocks(last)
    assert len(refused) == len(denied)
    assert all(block.get("is_error") for block in refused)
    body = json.dumps(last.body)
    assert OUTSIDE not in body
    assert "root:x:" not in body
    assert not list(place.glob("**/written"))
    assert not (shared / ".git/hooks/pre-commit").exists()
    assert (shared / ".claude" / "settings.json").read_text() == before


def test_writing_in_the_folder_is_allowed_by_its_rule(bridge: RunningBridge, shared: Path) -> None:
    path = shared / "new.txt"
    write = calling("Write", file_path=str(path), content="text")
    ask(bridge, "grpc", user(sim(turns=[{"tools": [write]}, {"text": "ok"}])))
    assert path.read_text() == "text"


def test_a_tool_of_the_callers_may_have_the_name_of_one_of_claudes_own(
    bridge: RunningBridge, shared: Path, api: str
) -> None:
    both = [calling("Read", file_path=f"{shared}/note.txt"), calling("mcp__client__Read", at="x")]
    question = user(sim(turns=[{"text": "I ask.", "tools": both}, {"text": "done"}]))
    answer, exchanges = ask(bridge, api, question, tools=(OWN,))
    assert answer.finish == "tool_calls"
    assert [(call.name, call.arguments) for call in answer.calls] == [("Read", '{"at": "x"}')]
    names = [tool["name"] for tool in exchanges[0].tools]
    assert {"Read", "mcp__client__Read"} <= set(names)
    result = ToolResultPart(answer.calls[0].id, (TextPart("the caller's"),))
    last, exchanges = ask(bridge, api, question, answer.message, user(result), tools=(OWN,))
    assert session_of(bridge, last) == "continued"
    assert last.text == "done"
    assert sorted(INSIDE in text for text in results(exchanges[-1])) == [False, True]


def test_a_conversation_continues_with_what_was_read_or_is_replayed_without(
    bridge: RunningBridge, shared: Path
) -> None:
    read = calling("Read", file_path=f"{shared}/note.txt")
    question = user(sim(turns=[{"text": "I look.", "tools": [read]}, {"text": "Seen."}]))
    answer, _ = ask(bridge, "http", question)
    more, exchanges = ask(bridge, "grpc", question, answer.message, user("And? " + sim(text="ok")))
    assert session_of(bridge, more) == "continued"
    assert INSIDE in "".join(results(exchanges[-1]))
    # A conversation that is not held open any more is what its caller knows of it.
    other, exchanges = ask(bridge, "grpc", question, answer.message, user("So? " + sim(text="ok")))
    assert session_of(bridge, other) != "continued"
    assert not exchanges[-1].contains(INSIDE)
    assert exchanges[-1].contains("I look.\\n\\nSeen.")


def test_a_limit_and_a_stop_text_end_the_answer_after_a_call_too(
    bridge: RunningBridge, shared: Path
) -> None:
    go = {"tools": [calling("Bash", command="cd .git/refs")]}
    limit: dict[str, Any] = {"http": {"max_completion_tokens": 90}}
    answer, _ = ask(bridge, "http", user(sim(turns=[go, {"tokens": 200}])), **limit)
    assert answer.finish == "length"
    assert answer.text.startswith("w0 w1 ")
    # Claude Code's shell stays where it was, in a conversation that was wiped since: nobody else
    # is to find it there.
    where = {"tools": [calling("Bash", command="pwd")]}
    stop: dict[str, Any] = {"grpc": {"sampling": pb.Sampling(stop=["STOP"])}}
    question = user(sim(turns=[where, {"text": "one STOP two"}]))
    answer, exchanges = ask(bridge, "grpc", question, **stop)
    assert (answer.finish, answer.text) == ("stop", "one ")
    assert results(exchanges[-1]) == [json.dumps(str(shared))]


def test_a_call_that_the_caller_requires_is_one_of_its_own_tools(
    bridge: RunningBridge, shared: Path
) -> None:
    turns = [
        {"tools": [calling("Read", file_path=f"{shared}/note.txt")]},
        {"tools": [calling("mcp__client__Read", at="x")]},
    ]
    answer, exchanges = ask(bridge, "grpc", user(sim(turns=turns)), tools=(OWN,), **REQUIRED)
    assert [call.name for call in answer.calls] == ["Read"]
    assert all("tool_choice" not in exchange.body for exchange in exchanges)


def test_the_rules_are_shown_at_the_start(bridge: RunningBridge, shared: Path) -> None:
    lines: list[str] = []
    _announce(bridge.bridge, lines.append)
    said = "\n".join(lines)
    assert str(shared) in said
    for rule in ("Read", "Grep", "Write", "Bash(git log:*)"):
        assert f"{rule}: " in said
    assert "everything else is denied" in said


def test_beside_them_what_is_changed_in_the_callers_tools_is_named(
    bridge: RunningBridge, api: str
) -> None:
    for tool, ignored in ((OWN, ()), (Tool("look", "10 m²"), ("tools",))):
        answer, _ = ask(bridge, api, user(sim(text="ok")), tools=(tool,))
        assert answer.ignored == ignored
