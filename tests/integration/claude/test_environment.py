"""The server's environment variables that reach Claude Code, and those that would harm callers."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude.processes.environment import OVERRULING, check_passed, passed_on
from bridge.core.claude.processes.launch import (
    NO_EXTRAS,
    Launcher,
    cut_off,
    hermetic_environment,
)
from bridge.core.claude.session import Session
from bridge.core.claude.turn_settings import Profile, TurnSettings
from bridge.core.claude.turns import Turn
from bridge.core.contract.request import Role, Tool
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.harness import SCALE, sim
from tests.support.waiting import soon

TOKENS = {"GITHUB_TOKEN": "t", "DATABASE_URL": "d", "CLAUDECODE": "1", "MCP_TIMEOUT": "1"}
NEEDED = {
    "HOME": "/h",
    "PATH": "/bin",
    "LC_CTYPE": "C",
    "https_proxy": "p",
    "NODE_EXTRA_CA_CERTS": "c",
    "ANTHROPIC_BASE_URL": "u",
    "CLAUDE_CONFIG_DIR": "d",
    "DISABLE_TELEMETRY": "1",
    "OTEL_SERVICE_NAME": "s",
}


def test_what_claude_code_needs_is_passed_on_and_other_programs_tokens_are_not() -> None:
    assert passed_on({**NEEDED, **TOKENS}) == NEEDED


@pytest.mark.parametrize(
    ("switch", "own", "others"),
    [
        ("CLAUDE_CODE_USE_BEDROCK", "AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET"),
        ("CLAUDE_CODE_USE_VERTEX", "GOOGLE_APPLICATION_CREDENTIALS", "AWS_SECRET_ACCESS_KEY"),
        ("CLAUDE_CODE_USE_FOUNDRY", "AZURE_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_a_cloud_providers_credentials_go_with_that_provider(
    switch: str, own: str, others: str
) -> None:
    environment = {own: "o", others: "x"}
    assert passed_on(environment) == {}
    assert passed_on({switch: "1", **environment}) == {switch: "1", own: "o"}


def test_the_operator_names_more() -> None:
    environment = {"GITHUB_TOKEN": "t", "VAULT_ADDR": "a", "VAULT_TOKEN": "b", "OTHER": "c"}
    passed = passed_on(environment, ("GITHUB_TOKEN", "VAULT_*"))
    assert passed == {"GITHUB_TOKEN": "t", "VAULT_ADDR": "a", "VAULT_TOKEN": "b"}


def test_the_bridges_own_and_what_overrules_callers_are_never_passed_on() -> None:
    environment = dict.fromkeys((*OVERRULING, "BRIDGE_API_KEYS"), "1")
    assert passed_on(environment, ("B*", "CLAUDE_*", *OVERRULING)) == {}


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*", "neither"),
        ("A B", "neither"),
        ("A*B", "neither"),
        ("BRIDGE_API_KEYS", "set by the bridge"),
        ("BRIDGE_*", "set by the bridge"),
        ("CLAUDE_CODE_EFFORT_LEVEL", "override"),
    ],
)
def test_a_pattern_that_cannot_be_passed_on_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_passed(pattern)


@pytest.fixture(scope="module")
async def simulator() -> AsyncGenerator[Simulator, None]:
    async with Simulator(pace_ms=0) as simulator:
        yield simulator


async def upstream(simulator: Simulator, folder: Path, environment: dict[str, str]) -> Any:
    """Return what reaches the API from a turn with a tool at low effort."""
    (folder / "home").mkdir(parents=True)
    (folder / "work").mkdir()
    env = hermetic_environment(os.environ, folder / "home", simulator.base_url)
    session = await Session.spawn(Launcher(bundled_cli(), {**env, **environment}, folder / "work"))
    mark = str(uuid.uuid4())
    try:
        await session.initialise(Profile("You are a test."))
        await session.configure(TurnSettings(model="sonnet", effort="low"))
        await session.offer([Tool("f", "Does a thing.")])
        text = f"{sim(tokens=2)} {mark}"
        await session.ask(Turn(Role.USER, ({"type": "text", "text": text},)))
        await session.turn_over()
    finally:
        await session.close()
    return seen(list(simulator.ledger.exchanges(containing=mark)))


def seen(exchanges: Sequence[Any]) -> Any:
    """Return the caller's options, as the API sees them."""
    if not exchanges:
        return None
    body = exchanges[0].body
    return {
        "calls": len(exchanges),
        "effort": body["output_config"]["effort"],
        "tools": [tool["name"] for tool in body["tools"]],
        "texts": [len(message["content"]) for message in body["messages"]],
        "metadata": sorted(json.loads(body["metadata"]["user_id"])),
        "ttls": [
            block["cache_control"].get("ttl")
            for block in (*body["system"], *(b for m in body["messages"] for b in m["content"]))
            if "cache_control" in block
        ],
        "added": "Token usage:" in str(body["messages"]),
    }


async def test_what_the_cli_does_for_a_user_besides_leaves_a_request_as_it_is(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Tests run without it, so that they reach no other host; a user's processes do it."""
    more = {**cut_off({}), NO_EXTRAS: ""}
    usual = await soon(upstream(simulator, tmp_path / "usual", more))
    assert usual == await soon(upstream(simulator, tmp_path / "quiet", {}))
    assert usual["calls"] == 1


VALUES = {
    "CLAUDE_CODE_EFFORT_LEVEL": "max",
    "CLAUDE_CODE_BLOCKING_LIMIT_OVERRIDE": "10",
    "CLAUDE_CODE_MESSAGES_PROMPT_CACHE_TTL": "5m",
}


async def test_each_that_is_withheld_overrules_callers_and_withheld_it_does_not(
    simulator: Simulator, tmp_path: Path
) -> None:
    plain = await soon(upstream(simulator, tmp_path / "plain", {}))
    assert plain["effort"] == "low"
    # Without Claude Code's own tools the bridge itself sets this one.
    names = sorted(OVERRULING - {"CLAUDE_AGENT_SDK_MCP_NO_PREFIX"})
    for name in names if SCALE >= 10 else names[::4]:
        given = {name: VALUES.get(name, "1")}
        spoiled = await soon(upstream(simulator, tmp_path / name, given))
        assert spoiled != plain, name
    every = passed_on({name: VALUES.get(name, "1") for name in OVERRULING})
    assert await soon(upstream(simulator, tmp_path / "withheld", every)) == plain
