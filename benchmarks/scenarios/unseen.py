"""Only new system prompts: how often no blank process is left."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.record import Line
from benchmarks.scenarios.base import question, unseen_system
from benchmarks.stage import Served, Stage
from benchmarks.subjects import Request, Subject

POOL_SIZE = 3
_REQUESTS = 5
"""Requests of each caller per round of the run without a break."""


class Unseen:
    """The share of requests that wait for a process to start, and how long."""

    name = "unseen"
    about = (
        f"A new system prompt on every request, {POOL_SIZE} at once on POOL_SIZE={POOL_SIZE} and "
        "BRIDGE_SPARES=1. The waits are those of the session log."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Send bursts with a pause before each, then without a break."""
        bridge = await stage.bridge(POOL_SIZE)
        http, _ = await stage.front_ends(bridge)
        bursts = await _logged_during(bridge, _bursts(http, stage.fewer(3)))
        stream = await _logged_during(bridge, _stream(http, stage.fewer(5)))
        await http.reset()
        return [
            *_lines(f"{POOL_SIZE} at once, after a pause", http.name, bursts),
            *_lines(f"{POOL_SIZE} at once, without a break", http.name, stream),
        ]


async def _logged_during(bridge: Served, work: Any) -> list[dict[str, Any]]:
    before = len(bridge.logged())
    await work
    return bridge.logged()[before:]


async def _bursts(front_end: Subject, count: int) -> None:
    for _ in range(count):
        await front_end.reset()
        await asyncio.gather(*(front_end.ask(_request()) for _ in range(POOL_SIZE)))


async def _stream(front_end: Subject, rounds: int) -> None:
    await front_end.reset()

    async def caller() -> None:
        for _ in range(rounds * _REQUESTS):
            await front_end.ask(_request())

    await asyncio.gather(*(caller() for _ in range(POOL_SIZE)))


def _request() -> Request:
    return Request(unseen_system(), (question(tokens=20),))


def _lines(what: str, subject: str, log: list[dict[str, Any]]) -> list[Line]:
    waited = [line for line in log if line["session"] == "spawned"]
    share = 100 * len(waited) / max(len(log), 1)
    return [
        Line(
            f"{what}: waited for a start",
            subject,
            "%",
            (share,),
            note=f"{len(waited)} of {len(log)} requests",
        ),
        Line(
            f"{what}: how long those waited",
            subject,
            "ms",
            tuple(float(line["queue_ms"]) for line in waited if line["queue_ms"] is not None),
        ),
        Line(
            f"{what}: first token of all",
            subject,
            "ms",
            tuple(
                float(line["first_token_ms"]) for line in log if line["first_token_ms"] is not None
            ),
        ),
    ]
