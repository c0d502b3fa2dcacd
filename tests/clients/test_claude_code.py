"""Claude Code itself, as it is shipped, with the bridge in place of Anthropic's API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.server.launching import bundled_cli
from tests.clients.programs import environment
from tests.support.harness import (
    LONG,
    PATIENCE,
    LoopThread,
    RunningBridge,
    settings_for_tests,
    sim,
)

KEY = "claude-code-key-long-enough"


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    """A bridge that asks for a key."""
    settings = settings_for_tests(tmp_path_factory.mktemp("state"), bridge_api_keys=f"cc={KEY}")
    running = RunningBridge(settings, loop_thread)
    running.start()
    yield running
    running.stop()


def run(
    bridge: RunningBridge, folder: Path, prompt: str, *options: str, **variables: str
) -> dict[str, Any]:
    """What `claude -p` makes of a prompt."""
    (folder / "home").mkdir(exist_ok=True)
    (folder / "work").mkdir(exist_ok=True)
    done = subprocess.run(
        (str(bundled_cli()), "-p", prompt, "--output-format", "json", *options),
        env=environment(folder / "home", ANTHROPIC_BASE_URL=bridge.url, **variables),
        cwd=folder / "work",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def upstream(bridge: RunningBridge, marker: str) -> list[dict[str, Any]]:
    return [dict(each.body) for each in bridge.simulator.ledger.exchanges(containing=marker)]


@pytest.mark.parametrize(
    "variable", ["ANTHROPIC_AUTH_TOKEN", pytest.param("ANTHROPIC_API_KEY", marks=LONG)]
)
def test_it_answers(guarded: RunningBridge, tmp_path: Path, marker: str, variable: str) -> None:
    result = run(guarded, tmp_path, f"{marker} " + sim(text="Good day"), **{variable: KEY})

    assert (result["is_error"], result["result"]) == (False, "Good day")
    (body,) = upstream(guarded, marker)
    billing = [block for block in body["system"] if "billing-header" in block["text"]]
    assert len(billing) == 1, "that of the bridge's own Claude Code, and no other"
    assert "cc_entrypoint=sdk-py" in billing[0]["text"]
    assert "DeferredToolPlaceholder" not in [tool["name"] for tool in body["tools"]]


def test_it_uses_its_own_tools(guarded: RunningBridge, tmp_path: Path, marker: str) -> None:
    (tmp_path / "work").mkdir()
    note = tmp_path / "work" / "note.txt"
    note.write_text("the word is plum\n" + sim(text="It is plum."))
    call = {"name": "Read", "input": {"file_path": str(note)}}

    result = run(
        guarded,
        tmp_path,
        f"{marker} " + sim(tools=[call]),
        "--allowedTools",
        "Read",
        ANTHROPIC_API_KEY=KEY,
    )

    assert result["result"] == "It is plum."
    assert result["num_turns"] == 2
    last = upstream(guarded, marker)[-1]
    assert "the word is plum" in json.dumps(last["messages"])


def test_it_is_told_that_its_key_is_wrong(guarded: RunningBridge, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        (str(bundled_cli()), "-p", "hello", "--output-format", "json"),
        env=environment(
            tmp_path / "home",
            ANTHROPIC_BASE_URL=guarded.url,
            ANTHROPIC_API_KEY="wrong-key",
            CLAUDE_CODE_MAX_RETRIES="0",
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    result = json.loads(done.stdout)

    assert result["is_error"]
    assert result["api_error_status"] == 401


SHOP = Path(__file__).parent / "shop.py"
"""A program of this repository that offers a tool over MCP."""


def test_it_searches_for_tools_that_are_deferred(
    guarded: RunningBridge, tmp_path: Path, marker: str
) -> None:
    turns = [
        {"tools": [{"name": "ToolSearch", "input": {"query": "select:mcp__shop__price"}}]},
        {"tools": [{"name": "mcp__shop__price", "input": {"item": "plums"}}]},
        {"text": "They are 3."},
    ]
    servers = {"mcpServers": {"shop": {"command": sys.executable, "args": [str(SHOP)]}}}

    result = run(
        guarded,
        tmp_path,
        f"{marker} {sim(turns=turns)}",
        *("--mcp-config", json.dumps(servers), "--allowedTools", "mcp__shop__price", "ToolSearch"),
        ANTHROPIC_API_KEY=KEY,
        ENABLE_TOOL_SEARCH="true",
    )

    assert (result["is_error"], result["result"]) == (False, "They are 3."), result
    assert result["num_turns"] == 3
    bodies = upstream(guarded, marker)
    offered = [{tool["name"] for tool in body["tools"]} for body in bodies]
    assert ["mcp__shop__price" in names for names in offered] == [False, True, True]
    assert "plums cost 3" in json.dumps(bodies[-1]["messages"])
