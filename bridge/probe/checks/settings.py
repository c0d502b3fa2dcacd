"""Settings of a running process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bridge.core.claude import (
    ExtraBody,
    Session,
    TurnSettings,
)
from bridge.core.contract import Tool
from bridge.probe.stage import (
    PLAIN,
    Stage,
    require,
)

if TYPE_CHECKING:
    from bridge.simulator import Exchange
from bridge.probe.checks.check import Behaviour

_OTHER_LIMIT = 4_321


_PLAIN = TurnSettings()


def late(
    id: str,
    sentence: str,
    wanted: TurnSettings,
    holds: Callable[[Sequence[Exchange]], bool],
    *,
    plain: TurnSettings = _PLAIN,
    tools: Sequence[Tool] = (),
    say: str = PLAIN,
) -> Behaviour:
    """Check that a setting takes effect, stays when another one changes, and can be unset.

    `holds` decides from a turn's upstream calls whether `wanted` is in effect; with `plain` it is
    not.
    """

    async def seen(stage: Stage, session: Session) -> bool:
        asked = await stage.ask(session, say=say)
        if asked.calls:
            await session.stop()
        require(bool(asked.exchanges), "nothing reached the model")
        return holds(asked.exchanges)

    async def check(stage: Stage) -> None:
        session = await stage.warm()
        await session.offer(tools)
        await session.configure(wanted)
        require(await seen(stage, session), "it has no effect")
        other = (
            replace(wanted, thinking=not wanted.thinking)
            if wanted.max_output_tokens is not None
            else replace(wanted, max_output_tokens=_OTHER_LIMIT)
        )
        await session.configure(other)
        require(await seen(stage, session), "it is lost when another setting changes")
        await session.configure(plain)
        require(not await seen(stage, session), "it cannot be unset")

    return Behaviour(id, sentence, check)


def field(name: str, *values: object) -> Callable[[Sequence[Exchange]], bool]:
    return lambda exchanges: exchanges[0].body.get(name) in values


def thinking_off(exchanges: Sequence[Exchange]) -> bool:
    # The edit that goes with thinking is refused without it.
    body = exchanges[0].body
    return (body.get("thinking") or {}).get("type", "disabled") == "disabled" and (
        "clear_thinking" not in json.dumps(body.get("context_management"))
    )


def effort_low(exchanges: Sequence[Exchange]) -> bool:
    return bool((exchanges[0].body.get("output_config") or {}).get("effort") == "low")


def forced(exchanges: Sequence[Exchange]) -> bool:
    choice = exchanges[0].body.get("tool_choice")
    return bool(choice == {"type": "tool", "name": "second"})


def formatted(exchanges: Sequence[Exchange]) -> bool:
    form = (exchanges[0].body.get("output_config") or {}).get("format")
    return bool(form == {"type": "json_schema", "schema": json.loads(SCHEMA)})


def sampled(exchanges: Sequence[Exchange]) -> bool:
    body = exchanges[0].body
    return body.get("temperature") == 0.25 or body.get("top_p") == 0.75


# This model accepts everything that newer models refuse: sampling, and forced tool calls.
_TAKES_ALL = TurnSettings(model="claude-haiku-4-5", thinking=False)


SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
)


def with_body(**fields: Any) -> TurnSettings:
    return replace(_TAKES_ALL, extra_body=ExtraBody(**fields))


def short(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 300 else f"{words[:300]}…"
