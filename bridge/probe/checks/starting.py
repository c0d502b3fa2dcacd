"""State before `initialize`, the effect of the user's own settings, and the content of requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bridge.core.claude import TOOL_PREFIX, TurnSettings
from bridge.core.contract import Tool
from bridge.probe.stage import (
    SYSTEM,
    USER_LIMIT,
    USER_TEXTS,
    Stage,
    Wire,
    assistant,
    require,
    user,
)

if TYPE_CHECKING:
    pass
from bridge.probe.checks.tools import TOOLS


async def boots(stage: Stage) -> None:
    await stage.user_blank()


async def preset(stage: Stage) -> None:
    system = (await stage.user_turn()).exchange.system_text
    require(len(system) > 3_000, f"the system prompt has {len(system)} characters")


async def user_settings(stage: Stage) -> None:
    exchange = (await stage.user_turn()).exchange
    session = await stage.user_blank()
    await session.configure(TurnSettings(thinking=False))
    after_a_change = (await stage.ask(session)).exchange
    for seen in (exchange, after_a_change):
        for words in USER_TEXTS:
            require(not seen.contains(words), f"{words} reached the model")
        limit = seen.body["max_tokens"]
        require(limit != USER_LIMIT, f"the user's own limit of {limit} tokens applies")
    require("haiku" in exchange.model, f"the user's default model is not used: {exchange.model}")


async def facts(stage: Stage) -> None:
    facts = (await stage.warm()).facts
    require(facts is not None and bool(facts.version), "no version is reported")
    assert facts is not None
    source = facts.account.get("tokenSource")
    require(source == "CLAUDE_CODE_OAUTH_TOKEN", f"the reported source of the login is {source}")
    resolved = {model.get("value"): model.get("resolvedModel") for model in facts.models}
    require("default" in resolved, "no default model is reported")
    require(
        all(str(name).startswith("claude-") for name in resolved.values()),
        f"the models are {resolved}",
    )


async def system_prompt(stage: Stage) -> None:
    system = (await stage.ask(await stage.warm())).exchange.system_text
    require(SYSTEM in system, "it did not reach the model")
    require(len(system) < 1_000, "part of the preset is left")


async def no_built_in_tools(stage: Stage) -> None:
    tools = (await stage.ask(await stage.warm())).exchange.tools
    require(not tools, f"{[tool.get('name') for tool in tools]} are offered")


async def no_title(stage: Stage) -> None:
    """A turn is one upstream call, also where the CLI may do more than answer."""
    async with stage.as_for_a_user() as session:
        calls = len((await stage.ask(session)).exchanges)
    require(calls == 1, f"a question is sent in {calls} upstream calls")


async def plan(stage: Stage) -> None:
    """A token has no plan, as far as the CLI knows."""
    limits = await (await stage.warm()).usage_limits(0.0)
    require(limits is None, f"a token has limits: {limits}")


async def own_tools(stage: Stage) -> None:
    async with stage.with_own_tools("Bash") as session:
        await session.offer([Tool("Bash")])
        tools = {tool["name"]: tool for tool in (await stage.ask(session)).exchange.tools}
    require(tools.keys() == {"Bash", f"{TOOL_PREFIX}Bash"}, f"there are {list(tools)}")
    properties = tools["Bash"]["input_schema"]["properties"]
    require("run_in_background" not in properties, "a command may run in the background")


async def user_agent(stage: Stage) -> None:
    agent = (await stage.ask(await stage.warm())).exchange.headers.get("user-agent", "")
    require("claude-code-bridge/" in agent, f"it is {agent}")


async def cache_breakpoints(stage: Stage) -> None:
    session = await stage.warm()
    await session.offer(TOOLS)
    await session.replay((user("a"), assistant("b"), user("c"), assistant("d")))
    asked = await stage.ask(session)
    marks = list(_cache_controls(asked.exchange.body))
    require(len(marks) <= 4, f"there are {len(marks)}")
    ours = stage.launcher.cache_control
    require(all(mark == ours for mark in marks), f"they differ: {marks}")
    last = [message for message in asked.exchange.messages if message["role"] == "user"][-1]
    require(last["content"][-1].get("cache_control") == ours, "the last question has none")


def _cache_controls(value: object) -> Iterator[Wire]:
    if isinstance(value, dict):
        if isinstance(value.get("cache_control"), dict):
            yield value["cache_control"]
        for item in value.values():
            yield from _cache_controls(item)
    elif isinstance(value, list):
        for item in value:
            yield from _cache_controls(item)
