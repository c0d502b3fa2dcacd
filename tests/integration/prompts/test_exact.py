"""Definitions of tools reach the model as they are, to the last character.

Claude Code would normalise them and take out signs that are not seen; where it has to send them,
the reply names that.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude.processes.launch import LONGEST_VARIABLE, Launcher, hermetic_environment
from bridge.core.claude.processes.user_settings import UserSettings
from bridge.core.contract.request import TextPart, Tool, ToolResultPart
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.pool.policy import PoolLimits
from bridge.core.telemetry.session_log import SessionLog
from bridge.server.launching import bundled_cli
from bridge.simulator import Exchange, Simulator
from tests.integration.parity.scenarios import MAP, STRICT, new_marker, schema
from tests.integration.parity.test_continuing import session_of
from tests.integration.prompts.test_text import ask, by_call
from tests.support.all_apis import ALL_APIS
from tests.support.apis import Scenario
from tests.support.harness import RunningBridge, RunningEngine, sim, user

SIGNS = [
    "その他\uff08要記入\uff09",
    "10 m²",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\U0001f469\u200d\U0001f4bb",
    "Foo™",
    "\ue000½ﬁ",
]
PICK = Tool(
    "pick",
    " ".join(SIGNS) + "\u2028\u00ad" + "long " * 40_000,
    {
        "type": "object",
        "properties": {
            "of": {"type": "string", "enum": SIGNS, "description": SIGNS[2]},
            "__proto__": {"type": "string"},
        },
        "$comment": "kept",
    },
)
TOOLS = (PICK, Tool("plain"))
EXACTLY: dict[str, Any] = {"grpc": {"strict": True}, **STRICT}


@pytest.fixture(params=ALL_APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sent(exchange: Exchange) -> list[tuple[str, str, Any]]:
    return [(tool["name"], tool["description"], tool["input_schema"]) for tool in exchange.tools]


def defined(*tools: Tool) -> list[tuple[str, str, Any]]:
    empty = {"type": "object", "properties": {}}
    return [(t.name, t.description, dict(t.parameters) or empty) for t in tools]


def test_definitions_arrive_as_they_are_and_are_called_and_continued(
    bridge: RunningBridge, api: str
) -> None:
    marker = new_marker()
    calls = [{"name": "pick", "input": {"of": sign, "__proto__": "x"}} for sign in SIGNS]
    question = user(f"{marker} " + sim(turns=[{"tools": calls}, {"text": "ok"}]))
    answer, exchange = ask(bridge, api, [question], marker, tools=TOOLS, **EXACTLY)
    assert answer.ignored == ()
    assert sent(exchange) == defined(*TOOLS)
    assert [json.loads(call.arguments) for call in answer.calls] == [c["input"] for c in calls]

    results = [ToolResultPart(call.id, (TextPart(call.arguments),)) for call in answer.calls]
    messages = [question, answer.message, user(*results)]
    last, exchange = ask(bridge, api, messages, marker, tools=TOOLS)
    assert (session_of(bridge, last), last.text) == ("continued", "ok")
    assert sent(exchange) == defined(*TOOLS)
    assert sorted(by_call(exchange)) == sorted((call.id, call.arguments) for call in answer.calls)

    # With another definition of the same name the conversation is another one.
    other = (replace(PICK, description="Another."),)
    last, exchange = ask(bridge, api, messages, marker, tools=other)
    assert session_of(bridge, last) != "continued"
    assert sent(exchange) == defined(*other)


def test_nothing_of_them_is_left_for_a_request_without_tools(
    bridge: RunningBridge, api: str
) -> None:
    for tools in (TOOLS, (), TOOLS[1:]):
        marker = new_marker()
        question = [user(f"{marker} " + sim(text="ok"))]
        _, exchange = ask(bridge, api, question, marker, tools=tools)
        assert sent(exchange) == defined(*tools)


@pytest.mark.parametrize("tools", [TOOLS, TOOLS[1:]], ids=["changed", "as they are"])
def test_beside_claude_codes_own_tool_for_answers_a_change_is_named(
    bridge: RunningBridge, api: str, tools: tuple[Tool, ...]
) -> None:
    marker = new_marker()
    question = [user(f"{marker} " + sim(json={"a": 1}))]
    answer, exchange = ask(bridge, api, question, marker, tools=tools, **schema(MAP))
    assert "StructuredOutput" in [tool["name"] for tool in exchange.tools]
    assert answer.ignored == (("tools",) if tools is TOOLS else ())


def test_beside_claude_codes_own_tool_a_strict_request_is_refused(bridge: RunningBridge) -> None:
    shape = schema(MAP)
    shape["grpc"]["strict"] = True
    scenario = Scenario("", (user(sim(json={"a": 1})),), tools=TOOLS, **shape, **STRICT)
    for api in ALL_APIS.values():
        failure = api(bridge, scenario, new_marker()).failure
        assert failure is not None
        assert (failure.reason, failure.field) == ("invalid_value", "tools")


async def test_what_is_too_long_for_the_command_that_logs_in_is_sent_by_claude_code(
    tmp_path: Path,
) -> None:
    """Commands that it starts get all its variables, and do not start where one is too long."""
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\necho key-of-the-helper\n")
    helper.chmod(0o755)
    async with Simulator(pace_ms=0) as simulator:
        environment = hermetic_environment({}, tmp_path, simulator.base_url)
        del environment["CLAUDE_CODE_OAUTH_TOKEN"]
        # So that the command runs for each request.
        environment |= {"CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "1", "PATH": "/usr/bin:/bin"}
        login = UserSettings(login={"apiKeyHelper": str(helper)})
        launcher = Launcher(bundled_cli(), environment, tmp_path, user_settings=login)
        log = SessionLog(tmp_path / "log.jsonl")
        async with Engine(launcher, EngineOptions(PoolLimits(1, 2, 0)), log) as engine:
            running = RunningEngine(engine, simulator, log, tmp_path / "log.jsonl")
            for length, ignored in (
                (LONGEST_VARIABLE // 2, ()),
                (2 * LONGEST_VARIABLE, ("tools",)),
            ):
                marker = new_marker()
                tool = Tool("pick", "™" + "x" * length)
                answer = await running.ask(user(marker + sim(text="ok")), tools=(tool,))
                assert answer.ignored == ignored
                (exchange,) = running.upstream(marker)
                assert len(exchange.tools[0]["description"]) > length
                assert exchange.headers["x-api-key"] == "key-of-the-helper"
        log.close()
