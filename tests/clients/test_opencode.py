"""opencode as it is shipped, against the bridge: it edits files over each of the three APIs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs import environment, installed
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim

VERSION = "1.18.33"
PACKAGES = {
    "chat": "@ai-sdk/openai-compatible",
    "responses": "@ai-sdk/openai",
    "messages": "@ai-sdk/anthropic",
}
"""What opencode speaks each API with; it brings all along."""


class OpenCode:
    """opencode with a home and a folder to work in."""

    def __init__(self, program: Path, folder: Path, bridge: RunningBridge, package: str) -> None:
        self.bridge = bridge
        self.work = folder / "work"
        self.work.mkdir()
        self._program = program
        self._home = folder / "home"
        self._home.mkdir()
        provider = {
            "npm": package,
            "name": "Claude",
            "options": {"baseURL": f"{bridge.url}/v1", "apiKey": "unused"},
            "models": {"opus": {"name": "Claude Opus"}},
        }
        config: dict[str, Any] = {
            "provider": {"bridge": provider},
            "model": "bridge/opus",
            "small_model": "bridge/opus",
            "autoupdate": False,
            "share": "disabled",
        }
        (self.work / "opencode.json").write_text(json.dumps(config))

    def run(self, *words: str) -> list[dict[str, Any]]:
        """Run `opencode run` to its end; the events that it printed.

        It puts words with spaces between quotes, which would spoil a directive.
        """
        process = subprocess.Popen(
            (str(self._program), "run", "--format", "json", *words),
            cwd=self.work,
            env=environment(self._home, OPENCODE_DISABLE_MODELS_FETCH="1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert events, err
        return events


@pytest.mark.parametrize(
    "api", ["chat", pytest.param("responses", marks=LONG), pytest.param("messages", marks=LONG)]
)
def test_it_edits_files(api: str, tmp_path: Path, bridge: RunningBridge) -> None:
    program = installed("opencode-ai", VERSION, "opencode")
    opencode = OpenCode(program, tmp_path, bridge, PACKAGES[api])
    made = opencode.work / "made.txt"
    script = uuid.uuid4().hex
    first, second = 'one "two" \\ drei ü 🙂\n', "done\n"
    edit = {"filePath": str(made), "oldString": first.strip(), "newString": second.strip()}
    steps: list[dict[str, Any]] = [
        {
            "text": "I start.",
            "tools": [{"name": "write", "input": {"filePath": str(made), "content": first}}],
        },
        {"tools": [{"name": "edit", "input": edit, "fragment": 7}]},
        {"tools": [{"name": "bash", "input": {"command": "cat made.txt", "description": "Look"}}]},
        {"text": "All done."},
    ]
    bridge.simulator.scripts.put(script, {"steps": steps, "tools_only": True})
    events = opencode.run("Do", "it.", *sim(script=script).split())
    assert made.exists(), json.dumps(events)
    assert made.read_text() == second, events
    texts = [event["part"]["text"] for event in events if event["type"] == "text"]
    assert texts == ["I start.", "All done."]
    assert sum(bridge.simulator.scripts.played(script).values()) == len(steps)
