"""Codex as it is shipped, against the bridge: it edits, runs commands, calls tools, and resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.http_server.openai.responses.compaction.summaries import SUMMARISE
from tests.clients.programs import environment, installed
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim

VERSION = "0.171.0"
NOTES = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    match asked["method"]:
        case "initialize":
            result = {
                "protocolVersion": asked["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "notes", "version": "1"},
            }
        case "tools/list":
            schema = {"type": "object", "properties": {"key": {"type": "string"}}}
            tool = {"name": "recall", "description": "Recalls a note.", "inputSchema": schema}
            result = {"tools": [tool]}
        case "tools/call":
            text = "the note of " + asked["params"]["arguments"]["key"]
            result = {"content": [{"type": "text", "text": text}]}
        case _:
            result = {}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
PATCH = '*** Begin Patch\n*** Add File: made.txt\n+one "two" \\ drei ü 🙂\n*** End Patch\n'
RECALL = {"name": "mcp__notes__recall", "input": {"key": "rivers"}}


class Codex:
    """Codex with a home and a folder to work in."""

    def __init__(self, program: Path, folder: Path, bridge: RunningBridge) -> None:
        self.bridge = bridge
        self.work = folder / "work"
        self.work.mkdir()
        self._program = program
        self._script = ""
        self._home = folder / "home"
        (self._home / ".codex").mkdir(parents=True)
        (folder / "notes.py").write_text(NOTES)
        self.configure(
            f"""
model = "opus"
model_provider = "bridge"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.bridge]
name = "bridge"
base_url = "{bridge.url}/v1"
env_key = "BRIDGE_API_KEY"
wire_api = "responses"
stream_max_retries = 0
[mcp_servers.notes]
command = {json.dumps(sys.executable)}
args = [{json.dumps(str(folder / "notes.py"))}]
"""
        )

    def configure(self, text: str) -> None:
        (self._home / ".codex" / "config.toml").write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = (str(self._program), "exec", *arguments, "--json", "--skip-git-repo-check")
        return subprocess.Popen(
            (*command, "--dangerously-bypass-approvals-and-sandbox"),
            cwd=self.work,
            env=environment(self._home, BRIDGE_API_KEY="unused", OPENAI_API_KEY="unused"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> list[dict[str, Any]]:
        """Run `codex exec` to its end; the events that it printed."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert events, err
        return events

    @property
    def played(self) -> int:
        """How many steps of the last script were played."""
        return sum(self.bridge.simulator.scripts.played(self._script).values())

    def script(self, *steps: dict[str, Any]) -> str:
        """Steps that the model plays in order, whatever is asked; the prompt that starts them."""
        self._script = name = uuid.uuid4().hex
        self.bridge.simulator.scripts.put(name, {"steps": list(steps), "tools_only": True})
        return f"Do it. {sim(script=name)}"


@pytest.fixture
def codex(tmp_path: Path, bridge: RunningBridge) -> Codex:
    return Codex(installed("@openai/codex", VERSION, "codex"), tmp_path, bridge)


def items(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The completed items of a kind."""
    return [
        event["item"]
        for event in events
        if event["type"] == "item.completed" and event["item"]["type"] == kind
    ]


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [item["text"] for item in items(events, "agent_message")]


def command(text: str) -> dict[str, Any]:
    return {"name": "exec_command", "input": {"cmd": text}, "fragment": 7}


def test_it_edits_a_file_runs_commands_and_calls_a_tool_it_searched_for(codex: Codex) -> None:
    prompt = codex.script(
        {
            "text": "I start.",
            "tools": [
                {"name": "apply_patch", "input": {"input": PATCH}, "fragment": 5},
                command("echo first"),
                command("echo second"),
            ],
        },
        {"tools": [{"name": "tool_search", "input": {"query": "recall notes"}}]},
        {"tools": [RECALL]},
        {"text": "All done."},
    )
    # Codex knows this model, and gives it other tools than those that it does not know.
    events = codex.run(prompt, "--model", "gpt-5.5")
    assert (codex.work / "made.txt").read_text() == 'one "two" \\ drei ü 🙂\n'
    assert [item["status"] for item in items(events, "file_change")] == ["completed"]
    ran = items(events, "command_execution")
    assert sorted(item["aggregated_output"] for item in ran) == ["first\n", "second\n"]
    (called,) = items(events, "mcp_tool_call")
    assert called["result"]["content"][0]["text"] == "the note of rivers"
    assert texts(events) == ["I start.", "All done."]
    assert events[-1]["type"] == "turn.completed"


@LONG
def test_it_calls_a_namespaced_tool_and_commands_at_once(codex: Codex) -> None:
    steps = ({"tools": [command("echo a"), command("echo b"), RECALL]}, {"text": "All done."})
    events = codex.run(codex.script(*steps))
    assert len(items(events, "command_execution")) == 2
    (called,) = items(events, "mcp_tool_call")
    assert (called["server"], called["status"]) == ("notes", "completed")
    assert texts(events) == ["All done."]


@LONG
def test_it_needs_nothing_but_a_base_url(codex: Codex) -> None:
    codex.configure(f'openai_base_url = "{codex.bridge.url}/v1"\n')
    source = 'const r = await tools.exec_command({cmd: "echo 6 times 7"}); text(r);'
    call = {"name": "functions__exec", "input": {"input": source}}
    events = codex.run(codex.script({"tools": [call]}, {"text": "All done."}))
    (ran,) = items(events, "command_execution")
    assert ran["aggregated_output"] == "6 times 7\n"
    assert texts(events) == ["All done."]
    # It tries a WebSocket first, and learns at once that there is none.
    assert not [event for event in events if event["type"] == "error"]


@LONG
def test_an_image_and_a_schema_reach_the_model(codex: Codex, png_image: bytes) -> None:
    (codex.work / "dot.png").write_bytes(png_image)
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string"}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    (codex.work / "schema.json").write_text(json.dumps(schema))
    mark = uuid.uuid4().hex
    said = json.dumps({"colour": "red"})
    events = codex.run(
        f"{mark} {sim(text=said)}", "--image", "dot.png", "--output-schema", "schema.json"
    )
    assert [json.loads(text) for text in texts(events)] == [{"colour": "red"}]
    (exchange,) = codex.bridge.simulator.ledger.exchanges(containing=mark)
    blocks = [b["type"] for m in exchange.messages for b in m["content"] if isinstance(b, dict)]
    assert "image" in blocks
    assert exchange.body["output_config"]["format"]["schema"] == schema


@LONG
@pytest.mark.parametrize(
    "cut",
    [
        # The second step is for Claude Code, which asks again before it gives up.
        ({"text": "so " * 100, "delay_ms": 10, "cut_after": 60}, {"text": "unseen"}),
        ({"tools": [command("touch half; " + "true; " * 60)], "delay_ms": 10, "cut_after": 40},),
    ],
    ids=["in a text", "in a call"],
)
def test_an_answer_that_ends_prematurely_is_resumed(
    codex: Codex, cut: tuple[dict[str, Any], ...]
) -> None:
    steps = (*cut, {"tools": [command("echo whole")]}, {"text": "All done."})
    events = codex.run(codex.script(*steps))
    assert events[-1]["type"] == "turn.failed", events
    # Nothing of half a command was run.
    assert items(events, "command_execution") == []
    assert not (codex.work / "half").exists()
    thread = events[0]["thread_id"]
    events = codex.run("resume", thread, "Go on.")
    (ran,) = items(events, "command_execution")
    assert ran["aggregated_output"] == "whole\n"
    assert texts(events) == ["All done."]


@LONG
def test_an_interrupted_turn_is_resumed(codex: Codex) -> None:
    prompt = codex.script({"endless": True, "delay_ms": 20}, {"text": "All done."})
    process = codex.start(prompt)
    assert process.stdout is not None
    thread = json.loads(process.stdout.readline())["thread_id"]
    deadline = time.monotonic() + PATIENCE
    while codex.played < 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    codex.bridge.wait_until_settled()
    assert texts(codex.run("resume", thread, "Go on.")) == ["All done."]


@LONG
def test_a_long_conversation_is_compacted(codex: Codex) -> None:
    first = {"tools": [command("echo hi")], "usage": {"input_tokens": 90_000}}
    prompt = codex.script(first, {"text": "All done."})
    events = codex.run(prompt, "--config", "model_auto_compact_token_limit=80000")
    assert texts(events)[-1] == "All done."
    asked = codex.bridge.simulator.ledger.exchanges(containing="CONTEXT CHECKPOINT COMPACTION")
    assert asked


@LONG
def test_a_long_conversation_is_compacted_by_the_server(codex: Codex) -> None:
    # So it does with a server that it takes for OpenAI's.
    codex.configure(
        f'openai_base_url = "{codex.bridge.url}/v1"\nmodel_auto_compact_token_limit = 80000\n'
    )
    source = 'const r = await tools.exec_command({cmd: "echo hi"}); text(r);'
    call = {"name": "functions__exec", "input": {"input": source}}
    mark = uuid.uuid4().hex
    prompt = codex.script({"tools": [call], "usage": {"input_tokens": 90_000}}, {"text": "Done."})
    events = codex.run(f"{mark} {prompt}")
    assert texts(events)[-1] == "Done."
    assert not [event for event in events if event["type"] == "error"]
    exchanges = codex.bridge.simulator.ledger.exchanges(containing=mark)
    assert [exchange for exchange in exchanges if exchange.contains(SUMMARISE[:40])]
    assert exchanges[-1].contains("This is the summary of it")
    assert "tool_use" not in json.dumps(exchanges[-1].messages)


@LONG
def test_the_limit_of_the_plan_ends_the_turn(
    tmp_path: Path, start_bridge: Callable[..., RunningBridge]
) -> None:
    bridge = start_bridge()
    codex = Codex(installed("@openai/codex", VERSION, "codex"), tmp_path, bridge)
    events = codex.run(f"Hello. {sim(error='usage_limit')}")
    assert events[-1]["type"] == "turn.failed"
    # Codex shows the time in words of its own, and asks no second time.
    assert "usage limit" in events[-1]["error"]["message"]
    assert len(codex.bridge.simulator.ledger.exchanges(containing="Hello. ")) == 1
