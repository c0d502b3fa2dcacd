"""The caller's tools reach the model under their own names, also those of Claude Code's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.core.contract.request import TextPart, Tool, ToolResultPart
from tests.support.harness import RunningEngine, running_engine, sim, user

NAMES = (
    *("Bash", "Read", "Edit", "Write", "Glob", "Grep", "Task", "Agent", "TodoWrite", "WebFetch"),
    *("WebSearch", "NotebookEdit", "ExitPlanMode", "AskUserQuestion", "ToolSearch", "Skill"),
    *("StructuredOutput", "apply_patch", "shell", "mcp__notes__recall", "mcp__client__look"),
)
# What Claude Code itself would shorten or put right in the arguments of its own tools.
ARGUMENTS: dict[str, Any] = {
    "command": "cd /tmp && ls  ",
    "file_path": "a b.txt",
    "old_string": "x  \n",
    "new_string": "y \n\n",
    "content": "trailing  \n",
    "timeout": "5",
}


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningEngine]:
    async with running_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


async def test_tools_named_like_claude_codes_own_are_the_callers(engine: RunningEngine) -> None:
    tools = tuple(Tool(name, f"The {name} of the caller.") for name in NAMES)
    calls = [{"name": name, "input": ARGUMENTS} for name in NAMES]
    question = user("own names " + sim(turns=[{"tools": calls}, {"text": "done"}]))
    answer = await engine.ask(question, tools=tools)
    assert [call.name for call in answer.calls] == list(NAMES)
    results = [ToolResultPart(call.id, (TextPart(f"{call.name} ran"),)) for call in answer.calls]
    after = await engine.ask(question, answer.message, user(*results), tools=tools)
    assert (after.text, after.session) == ("done", "continued")
    exchange = engine.upstream("own names")[-1]
    offered = [(tool["name"], tool["description"]) for tool in exchange.tools]
    assert offered == [(name, f"The {name} of the caller.") for name in NAMES]
    uses = [block for block in exchange.messages[-2]["content"] if block["type"] == "tool_use"]
    assert [(use["name"], use["input"]) for use in uses] == [(name, ARGUMENTS) for name in NAMES]
    # Claude Code runs tools whose names it knows in its own order.
    said = {
        block["tool_use_id"]: block["content"]
        for block in exchange.messages[-1]["content"]
        if block["type"] == "tool_result"
    }
    assert said == {
        call.id: [{"type": "text", "text": f"{call.name} ran"}] for call in answer.calls
    }


async def test_withdrawn_tools_are_gone(engine: RunningEngine) -> None:
    first, second = Tool("Bash", "Before."), Tool("Read", "After.")
    await engine.ask(user("with Bash"), tools=(first,))
    await engine.settled()
    await engine.ask(user("with Read"), tools=(second,))
    assert [tool["name"] for tool in engine.upstream("with Read")[-1].tools] == ["Read"]
