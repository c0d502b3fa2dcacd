"""Only system prompts that were never seen: how often there is no blank left."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.record import Line
from benchmarks.scenarios.base import question, unseen_system
from benchmarks.stage import Served, Stage
from benchmarks.subjects import Request, Subject

POOL_SIZE = 3
_REQUESTS = 5
"""Requests of each caller in a row, where they come without a break."""


class Unseen:
    """What share of requests wait for a process to start, and how long."""

    name = "unseen"
    about = (
        f"A system prompt of its own on every request, {POOL_SIZE} at once on "
        f"POOL_SIZE={POOL_SIZE} and BRIDGE_SPARES=1. What waited is what the session log says."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Send bursts with a rest before each, then without a break."""
        bridge = await stage.bridge(POOL_SIZE)
        http, _ = await stage.doors(bridge)
        bursts = await _logged_during(bridge, _bursts(http, stage.fewer(3)))
        stream = await _logged_during(bridge, _stream(http, stage.fewer(5)))
        await http.afresh()
        return [
            *_lines(f"{POOL_SIZE} at once, after a rest", http.name, bursts),
            *_lines(f"{POOL_SIZE} at once, without a break", http.name, stream),
        ]


async def _logged_during(bridge: Served, work: Any) -> list[dict[str, Any]]:
    before = len(bridge.logged())
    await work
    return bridge.logged()[before:]


async def _bursts(door: Subject, count: int) -> None:
    for _ in range(count):
        await door.afresh()
        await asyncio.gather(*(door.ask(_request()) for _ in range(POOL_SIZE)))


async def _stream(door: Subject, rounds: int) -> None:
    await door.afresh()

    async def caller() -> None:
        for _ in range(rounds * _REQUESTS):
            await door.ask(_request())

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
