"""An engine on the stand-in for the CLI, which misbehaves as configured."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.core.contract.request import CompletionRequest
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.pool.policy import PoolLimits, State
from bridge.core.telemetry.session_log import SessionLog
from tests.support.claude.fake_process import fake_launcher
from tests.support.harness import Answer, user

Line = dict[str, Any]

ONE = PoolLimits(1, 2, 0, park_seconds=0)
"""A turn at a time, and no conversation kept."""


def event(**fields: Any) -> Line:
    return {"type": "stream_event", "event": fields}


BEGUN: list[Line] = [
    event(type="message_start", message={"model": "claude-fake", "usage": {"input_tokens": 1}}),
    event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "Half "}),
]
"""The beginning of an answer."""

WHOLE: list[Line] = [
    *BEGUN,
    event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "and half."}),
    event(type="content_block_stop", index=0),
    event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
    event(type="message_stop"),
    {"type": "result", "subtype": "success", "is_error": False},
]
"""An answer: "Half and half."."""

INFO: Line = {
    "models": [{"value": "default", "resolvedModel": "claude-fake"}],
    "account": {"tokenSource": "fake"},
    "claude_code_version": "9.9.9",
}


def faking(numbers: Path, **how: Any) -> dict[str, Any]:
    """The stand-in's configuration to serve an engine, and to misbehave as in `how`."""
    numbers.mkdir(exist_ok=True)
    return {
        "numbers": str(numbers),
        "answers": {"initialize": INFO, "rewind_conversation": {"rewound": True}},
        "turn": WHOLE,
        "well": WHOLE,
        "obedient": True,
        **how,
    }


@dataclass(frozen=True)
class FakedEngine:
    """An engine on the stand-in."""

    engine: Engine
    numbers: Path

    async def ask(self, **options: Any) -> Answer:
        """Complete once and gather the answer."""
        request = CompletionRequest((user("Hello?"),), request_id=uuid.uuid4().hex, **options)
        answer = Answer()
        async with aclosing(self.engine.complete(request)) as events:
            async for given in events:
                answer.add(given)
        return answer

    @property
    def starts(self) -> int:
        """How many processes have begun to start."""
        return len(list(self.numbers.iterdir()))

    @property
    def pids(self) -> list[int]:
        """The processes that are up."""
        return [session.pid for session in self.engine.pool.sessions()]

    async def at_rest(self) -> None:
        """Wait until all processes are idle or blank, and there is one."""
        resting = (State.IDLE, State.BLANK, State.PARKED)
        await self.engine.pool.wait_for(
            lambda counts: sum(counts[s] for s in resting) == sum(counts.values()) > 0
        )


@asynccontextmanager
async def faked_engine(
    folder: Path, limits: PoolLimits = ONE, *, how: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[FakedEngine]:
    """An engine whose processes behave as in `how`; `options` are those of EngineOptions."""
    numbers = folder / "numbers"
    launcher = fake_launcher(**faking(numbers, **(how or {})))
    engine = Engine(launcher, EngineOptions(limits, **options), SessionLog(None))
    async with engine:
        yield FakedEngine(engine, numbers)
