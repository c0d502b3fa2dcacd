"""What the bridge does without a behaviour, end to end: served otherwise, or not started."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.core.claude.capabilities import Capabilities
from bridge.core.contract.request import (
    Effort,
    OutputFormat,
    OutputKind,
    Sampling,
    Tool,
    ToolChoice,
    ToolMode,
)
from bridge.core.pool.policy import PoolLimits
from bridge.probe import Report, report_for
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.hashing import sha256_of
from bridge.server import supervisor
from bridge.server.start_error import StartError
from bridge.server.supervisor import Doors, serving
from bridge.simulator import Exchange
from tests.core.waiting import soon
from tests.harness import (
    PATIENCE,
    RunningEngine,
    assistant,
    running_engine,
    settings_for_tests,
    sim,
    user,
)
from tests.probe.lacking import cli_without

SENTENCES = {behaviour.id: behaviour.sentence for behaviour in BEHAVIOURS}


def process_of(exchange: Exchange) -> str:
    """The CLI process that made an upstream call: each names itself by an id of its own."""
    return exchange.headers["x-claude-code-session-id"]


# Without rewind


async def test_without_rewind_each_conversation_has_a_process_and_nothing_is_carried_over(
    tmp_path: Path,
) -> None:
    cli = cli_without(tmp_path, "rewind")
    capabilities = Capabilities(rewind=False)
    async with running_engine(
        tmp_path, PoolLimits(1, 3, 1, park_seconds=0), cli=cli, capabilities=capabilities
    ) as engine:
        seen: list[Exchange] = []
        for number in range(3):
            words = f"conversation-{number}"
            answer = await engine.ask(
                user("one " + words), assistant("two " + words), user(words + sim(text="three"))
            )
            assert answer.text == "three"
            await engine.settled()
            (exchange,) = engine.upstream(words)
            assert len([m for m in exchange.messages if m["role"] != "system"]) == 3
            others = (f"conversation-{other}" for other in range(number))
            assert not [other for other in others if exchange.contains(other)]
            seen.append(exchange)
        assert len({process_of(exchange) for exchange in seen}) == 3


async def test_without_rewind_a_conversation_is_still_continued_where_it_stands(
    tmp_path: Path,
) -> None:
    cli = cli_without(tmp_path, "rewind")
    async with running_engine(
        tmp_path, PoolLimits(1, 3, 1), cli=cli, capabilities=Capabilities(rewind=False)
    ) as engine:
        first = user("question-a" + sim(text="one"))
        answer = await engine.ask(first)
        await engine.settled()
        again = await engine.ask(first, answer.message, user("question-b" + sim(text="two")))
        assert (again.text, again.session) == ("two", "continued")
        assert len({process_of(exchange) for exchange in engine.upstream("question-a")}) == 1


# Without settings that can be changed late

TOOL = Tool("look", "Looks.", {"type": "object", "properties": {}})
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
async def unchangeable(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningEngine]:
    """An engine on a CLI on whose running processes no setting can be changed."""
    folder = tmp_path_factory.mktemp("unchangeable")
    late = ("late-model", "late-effort", "late-max-output-tokens", "late-thinking", "late-retries")
    cli = cli_without(folder, *late, "extra-body")
    capabilities = Capabilities(late_settings=frozenset())
    async with running_engine(
        folder, PoolLimits(1, 3, 0), cli=cli, capabilities=capabilities
    ) as engine:
        yield engine


def _under(body: Any, *path: str) -> Any:
    for name in path:
        body = (body or {}).get(name)
    return body


@pytest.mark.parametrize(
    ("options", "path", "value"),
    [
        ({"model": "haiku"}, ("model",), "claude-haiku-5-5"),
        ({"effort": Effort.LOW}, ("output_config", "effort"), "low"),
        ({"effort": Effort.NONE, "model": "claude-haiku-4-5"}, ("thinking",), None),
        ({"max_output_tokens": 321}, ("max_tokens",), 321),
        (
            {"sampling": Sampling(temperature=0.5), "model": "claude-haiku-4-5"},
            ("temperature",),
            0.5,
        ),
        ({"sampling": Sampling(stop=("#+#",))}, ("stop_sequences",), ["#+#"]),
        (
            {
                "tools": (TOOL,),
                "tool_choice": ToolChoice(ToolMode.NAMED, "look"),
                "model": "claude-haiku-4-5",
            },
            ("tool_choice", "name"),
            "mcp__client__look",
        ),
        (
            {"output_format": OutputFormat(OutputKind.JSON_SCHEMA, schema=SCHEMA)},
            ("output_config", "format", "schema"),
            SCHEMA,
        ),
    ],
    ids=["model", "effort", "thinking", "limit", "temperature", "stop", "tool choice", "schema"],
)
async def test_a_setting_that_cannot_be_changed_late_reaches_the_model_all_the_same(
    unchangeable: RunningEngine, options: dict[str, Any], path: tuple[str, ...], value: object
) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    await unchangeable.ask(user(mark), **options)
    await unchangeable.settled()
    (exchange,) = unchangeable.upstream(mark)
    assert _under(exchange.body, *path) == value


async def test_a_plain_request_after_it_has_a_process_with_the_defaults(
    unchangeable: RunningEngine,
) -> None:
    await unchangeable.ask(user("limited-request"), max_output_tokens=123)
    await unchangeable.settled()
    await unchangeable.ask(user("plain-request"))
    (limited,) = unchangeable.upstream("limited-request")
    (plain,) = unchangeable.upstream("plain-request")
    assert limited.body["max_tokens"] == 123
    assert plain.body["max_tokens"] > 1_000
    assert process_of(limited) != process_of(plain)


# The start


@pytest.fixture
def use_cli(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(cli: Path) -> None:
        monkeypatch.setattr(supervisor, "bundled_cli", lambda: cli)

    return use


async def test_a_start_without_what_is_required_names_it_and_nothing_is_kept(
    tmp_path: Path, use_cli: Any
) -> None:
    lacking = ("own-settings", "user-agent", "replay", "usage", "large-results")
    use_cli(cli_without(tmp_path, *lacking, "late-model"))
    state = tmp_path / "state"
    with pytest.raises(StartError) as refusal:
        async with serving(settings_for_tests(state), Doors(grpc=False, demo=True)):
            pass
    named = {id for id, sentence in SENTENCES.items() if sentence in str(refusal.value)}
    assert named == set(lacking)
    assert "claude-agent-sdk" in str(refusal.value)
    assert not (state / "probe.json").exists()


async def test_a_start_with_a_cli_that_does_not_run_says_so(tmp_path: Path, use_cli: Any) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    use_cli(program)
    with pytest.raises(StartError, match="could not be started"):
        async with serving(settings_for_tests(tmp_path / "state"), Doors(grpc=False, demo=True)):
            pass


async def test_a_start_uses_what_is_known_and_health_and_log_say_what_is_lacking(
    tmp_path: Path, use_cli: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cli = cli_without(tmp_path, "rewind")
    use_cli(cli)
    settings = settings_for_tests(tmp_path / "state")
    lacking = ("rewind-after-answers", "rewind-after-interrupt", "rewind-after-tools")

    async def known(cli: Path) -> Report:
        found = {behaviour.id: behaviour.id not in lacking for behaviour in BEHAVIOURS}
        return Report("2.0.0", await sha256_of(cli), found)

    await report_for(cli, settings.bridge_state_dir, probing=known)
    async with serving(settings, Doors(grpc=False, demo=True)) as bridge:
        url = f"http://127.0.0.1:{bridge.http_port}"
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            health = (await soon(client.get("/health"))).json()
            assert health["lacking"] == list(lacking)
            assert health["status"] == "ok"
            body = {"model": "default", "messages": [{"role": "user", "content": sim(text="hi")}]}
            answer = (await soon(client.post("/v1/chat/completions", json=body))).json()
            assert answer["choices"][0]["message"]["content"] == "hi"
    assert "lacks rewind-after-tools: each process is closed" in caplog.text
