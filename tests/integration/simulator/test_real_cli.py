"""The real CLI talks to the simulator, and nothing that it sends by itself is refused."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import claude_agent_sdk as sdk
import pytest

from bridge.simulator import Exchange, Simulator

BINARY = Path(sdk.__file__).parent / "_bundled" / "claude"
pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="the SDK came without its binary")


def converse(
    home: Path, monkeypatch: pytest.MonkeyPatch, prompts: Sequence[str], **options: Any
) -> tuple[list[sdk.ResultMessage], tuple[Exchange, ...]]:
    """One conversation, in an environment that has nothing of the user's."""
    for name in os.environ:
        if name != "PATH":
            monkeypatch.delenv(name)

    async def main() -> tuple[list[sdk.ResultMessage], tuple[Exchange, ...]]:
        results = []
        async with Simulator(pace_ms=0) as simulator:
            environment = {
                "HOME": str(home),
                "ANTHROPIC_BASE_URL": simulator.base_url,
                "ANTHROPIC_API_KEY": "any",
                "DISABLE_TELEMETRY": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            }
            settings = sdk.ClaudeAgentOptions(
                env=environment, cwd=home, setting_sources=[], tools=[], **options
            )
            async with asyncio.timeout(300), sdk.ClaudeSDKClient(settings) as client:
                for prompt in prompts:
                    await client.query(prompt)
                    async for message in client.receive_response():
                        if isinstance(message, sdk.ResultMessage):
                            results.append(message)
            return results, simulator.ledger.exchanges()

    return asyncio.run(main())


def test_plain_turns_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, exchanges = converse(tmp_path, monkeypatch, ["Hello there", "And again"])
    assert [result.is_error for result in results] == [False, False]
    assert "“Hello there”" in str(results[0].result)
    assert "“And again”" in str(results[1].result)
    assert [(e.status, e.ended) for e in exchanges] == [(200, "completed")] * 2


def test_calls_of_tools_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @sdk.tool("add", "Adds two numbers.", {"a": int, "b": int})
    async def add(arguments: dict[str, Any]) -> dict[str, Any]:
        total = arguments["a"] + arguments["b"]
        return {"content": [{"type": "text", "text": f"the sum is {total}"}]}

    calls = (
        '[{"name": "add", "input": {"a": 1, "b": 2}}, {"name": "add", "input": {"a": 3, "b": 4}}]'
    )
    results, exchanges = converse(
        tmp_path,
        monkeypatch,
        [f'Add. [[sim {{"text": "I add.", "tools": {calls}}}]]'],
        mcp_servers={"client": sdk.create_sdk_mcp_server("client", tools=[add])},
        allowed_tools=["mcp__client"],
    )
    assert "the sum is 3" in str(results[0].result)
    assert "the sum is 7" in str(results[0].result)
    assert [(e.status, e.ended) for e in exchanges] == [(200, "completed")] * 2
    assert any(tool["name"] == "mcp__client__add" for tool in exchanges[0].tools)


def test_a_refusal_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = '[[sim {"error": {"status": 400, "message": "no such luck"}}]]'
    results, exchanges = converse(tmp_path, monkeypatch, [prompt])
    assert results[0].is_error
    assert "no such luck" in str(results[0].result)
    assert {e.ended for e in exchanges} == {"refused"}
