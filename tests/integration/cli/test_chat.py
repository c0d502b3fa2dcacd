"""`bridge chat`, `models` and `pool` on a running server: at a terminal, by pipes, by signals."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.cli.common import printable
from bridge.cli.pool import rows_of
from bridge.client import ChatError, Question, Turn
from bridge.client.asking import Asked, Done, Text
from bridge.client.chat_session import Conversation, load_image, readable, schema_of
from bridge.simulator import Exchange
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.terminal import at_terminal

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
APIS = pytest.mark.parametrize("api", ["--http", "--grpc"])


def address(bridge: RunningBridge, api: str) -> list[str]:
    return ["--grpc", "--url", bridge.target] if api == "--grpc" else ["--url", bridge.url]


def run(bridge: RunningBridge, api: str, *arguments: str, stdin: str | bytes = "") -> Result:
    command, *rest = arguments
    # What stands after -- is no option.
    return CliRunner().invoke(app, [command, *address(bridge, api), *rest], input=stdin)


def asked(bridge: RunningBridge, marker: str) -> list[Exchange]:
    """What reached the model with this in it."""
    return list(bridge.simulator.ledger.exchanges(containing=marker))


@APIS
def test_a_prompt_what_is_piped_in_and_every_option_reach_the_model(
    bridge: RunningBridge, api: str, tmp_path: Path
) -> None:
    marker = f"every-option{api}"
    image, schema = tmp_path / "a.png", tmp_path / "schema.json"
    image.write_bytes(PNG)
    schema.write_text('{"type": "object", "properties": {"a": {"type": "integer"}}}')
    result = run(
        bridge,
        api,
        *("chat", f"{marker} {sim(json={'a': 1})}", "--model", "opus"),
        *("--system", f"Be {marker}.", "--image", str(image), "--json-schema", str(schema)),
        stdin="from the pipe\n",
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"a": 1}
    assert re.search(r"first token \d+\.\d\d s, .* \d+ prompt \+ \d+ output tokens · claude-opus",
                     result.stderr)  # fmt: skip
    exchange = asked(bridge, marker)[-1]
    assert f"Be {marker}." in exchange.system_text
    assert exchange.contains("\\n\\nfrom the pipe")
    assert exchange.contains('"media_type": "image/png"')
    assert exchange.body["output_config"]["format"]["type"] == "json_schema"


@APIS
def test_with_quiet_there_is_nothing_but_the_answer(bridge: RunningBridge, api: str) -> None:
    result = run(bridge, api, "chat", "-q", stdin=sim(text="one\ntwo"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "one\ntwo\n", "")


@APIS
def test_what_the_server_refuses_is_one_line(bridge: RunningBridge, api: str) -> None:
    result = run(bridge, api, "chat", "x", "--model", "claude-nonsense!")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("bridge: The model 'claude-nonsense!' does not exist")


@APIS
def test_an_answer_that_ends_prematurely_is_an_error_after_what_there_was(
    bridge: RunningBridge, api: str
) -> None:
    result = run(bridge, api, "chat", sim(tokens=40, error_after=5))
    assert result.exit_code == 1
    assert result.stdout.strip()
    assert result.stderr.splitlines()[-1].startswith("bridge: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "/nowhere.png"], "/nowhere.png cannot be read"),
        (["--image", __file__], "is not a PNG"),
        (["--json-schema", "/nowhere.json"], "/nowhere.json cannot be read"),
        (["--json-schema", __file__], "is not valid JSON"),
        (["--api-key", "schlüssel"], "key"),
    ],
)
def test_what_cannot_be_sent_is_reported_before_anything_is_sent(
    arguments: list[str], said: str
) -> None:
    result = CliRunner().invoke(app, ["chat", "x", *arguments])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert said in line


def test_an_empty_prompt_is_reported() -> None:
    result = CliRunner().invoke(app, ["chat"], input="\n")
    assert result.exit_code == 1
    assert "PROMPT" in result.stderr


class Scripted:
    """A client whose answers are given ahead; an exception in one is raised."""

    def __init__(self, *answers: list[object]) -> None:
        self.answers = list(answers)
        self.asked: list[Question] = []
        self.closed = 0

    def ask(self, question: Question) -> Any:
        self.asked.append(question)
        try:
            for part in self.answers.pop(0):
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self.closed += 1

    def models(self) -> list[dict[str, Any]]:
        return []


def texts(conversation: Conversation) -> list[str]:
    return [turn.text for turn in conversation.turns]


def test_a_conversation_keeps_its_messages_and_the_text_of_a_cancelled_answer() -> None:
    end: Asked = Done("m", "stop", 1, 2)
    client = Scripted(
        [Text("a"), Text("b"), end],
        [ChatError("no")],
        [Text("half"), KeyboardInterrupt()],
        [KeyboardInterrupt()],
        [Text("c"), end],
    )
    shown: list[str] = []
    conversation = Conversation(client, Question((), "opus", "Be brief."), shown.append)
    assert conversation.say(Turn("user", "1")).done == end
    with pytest.raises(ChatError):
        conversation.say(Turn("user", "2"))
    cancelled = conversation.say(Turn("user", "3"))
    assert (cancelled.done, cancelled.text) == (None, "half")
    assert "cancelled" in cancelled.summary()
    assert conversation.say(Turn("user", "4")).first_seconds is None
    assert texts(conversation) == ["1", "ab", "3", "half"]
    conversation.say(Turn("user", "5"))
    assert [turn.text for turn in client.asked[-1].turns] == ["1", "ab", "3", "half", "5"]
    assert {question.system for question in client.asked} == {"Be brief."}
    assert client.closed == 5
    assert shown == ["a", "b", "half", "c"]
    conversation.forget()
    assert texts(conversation) == []


def test_images_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    for content, media_type in (
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF1234WEBPVP8 ", "image/webp"),
    ):
        (tmp_path / "image").write_bytes(content)
        assert load_image(str(tmp_path / "image")).media_type == media_type
    assert load_image("https://a/b.png").url == "https://a/b.png"
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ChatError, match="object"):
        schema_of(tmp_path / "list.json")


def test_what_would_steer_the_terminal_is_left_out() -> None:
    assert printable("a\x1b[2J\tb\n\x07\x9bc") == "a[2J\tb\nc"
    assert readable("a\udcffb") == "a�b"


# As a program, at a terminal


@pytest.mark.parametrize("api", ["--http", pytest.param("--grpc", marks=LONG)])
def test_ctrl_c_ends_only_the_answer_and_the_conversation_continues(
    bridge: RunningBridge, api: str
) -> None:
    marker = f"interactive{api}"
    with at_terminal("chat", *address(bridge, api)) as terminal:
        terminal.wait_for("> ")
        terminal.type(f"{marker} {sim(endless=True)}")
        # Words of the answer, and not of what was typed.
        terminal.wait_for(r"\bw5 w6\b")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("cancelled; first token")
        terminal.wait_for("> ")
        # At the prompt it is no end, either.
        terminal.interrupt_until("/quit")
        terminal.type(sim(text="second answer"))
        terminal.wait_for("second answer")
        terminal.wait_for(r"prompt \+ \d+ output tokens")
        terminal.type("/quit")
        assert terminal.end() == 0
    bridge.wait_until_settled()
    first, second = asked(bridge, marker)
    assert first.ended == "client_closed"
    # The first question, as much of the answer as was seen, the second question.
    assert second.roles.count("user") == 2
    assert second.roles.count("assistant") == 1


@pytest.mark.parametrize("api", [pytest.param("--http", marks=LONG), "--grpc"])
def test_a_single_answer_that_is_cancelled_ends_with_130(bridge: RunningBridge, api: str) -> None:
    marker = f"cancelled{api}"
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "chat", *address(bridge, api), f"{marker} "
         + sim(endless=True)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"cancelled" in stderr
    assert b"Traceback" not in stderr
    bridge.wait_until_settled()
    assert asked(bridge, marker)[-1].ended == "client_closed"


def test_the_end_of_what_is_typed_ends_a_conversation(bridge: RunningBridge) -> None:
    with at_terminal("chat", "-q", *address(bridge, "--http")) as terminal:
        terminal.wait_for("> ")
        os.write(terminal.fd, b"\x04")
        assert terminal.end() == 0


# The other commands


@APIS
def test_the_models_are_listed(bridge: RunningBridge, api: str) -> None:
    names = run(bridge, api, "models").stdout.splitlines()
    assert "default" in names
    assert "opus" in names
    whole = json.loads(run(bridge, api, "models", "--json").stdout)
    assert [model["id"] for model in whole] == names
    assert all(len(model) > 1 for model in whole)


def pool(bridge: RunningBridge, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["pool", "--url", bridge.target, *arguments])


def test_the_pool_is_printed_for_users_and_for_programs(bridge: RunningBridge) -> None:
    bridge.wait_until_settled()
    told = json.loads(pool(bridge, "--json").stdout)
    assert told["pool_size"] == bridge.settings.pool_size
    assert told["processes"]["running"] == 0
    table = pool(bridge).stdout
    for line in ("status +ok", "a simulated model", "processes +\\d", "turns +2 concurrent"):
        assert re.search(line, table), table


def test_known_usage_limits_are_reported() -> None:
    base: dict[str, Any] = {
        "status": "STATUS_NOT_LOGGED_IN",
        "account": "none",
        "simulated": False,
        "cli_version": "",
        "max_processes": 1,
        "pool_size": 1,
        "waiting": 0,
        "lacking": [],
    }
    rows = dict(rows_of(base))
    assert rows["status"] == "not logged in"
    assert "plan" not in rows
    plan = {
        "status": "STATUS_ALLOWED_WARNING",
        "limit": "five_hour",
        "utilization": 0.93,
        "reset_time": "2027-01-15T08:00:00Z",
        "using_overage": True,
    }
    told = dict(rows_of({**base, "plan": plan, "lacking": ["rewind"]}))
    assert told["plan"].startswith("allowed warning · five hour 93% used · resets ")
    assert told["plan"].endswith("paid extra usage")
    assert told["lacking"] == "rewind"
    assert rows_of({**base, "plan": {"status": "STATUS_ALLOWED"}})[-1] == ("plan", "allowed")


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_the_pool_is_watched_at_a_terminal_until_ctrl_c(bridge: RunningBridge, kind: str) -> None:
    with at_terminal("pool", "--watch", "--url", bridge.target, kind=kind) as terminal:
        terminal.wait_for("2 concurrent")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
    assert "Traceback" not in terminal.output


def test_every_change_is_a_line_of_json_where_that_is_asked_for(bridge: RunningBridge) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "pool", "--watch", "--json", "--url", bridge.target],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    before = int(json.loads(process.stdout.readline())["totals"]["answered"])
    assert run(bridge, "--http", "chat", sim(text="x")).exit_code == 0
    while int(json.loads(process.stdout.readline())["totals"]["answered"]) == before:
        pass
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (0, "")
