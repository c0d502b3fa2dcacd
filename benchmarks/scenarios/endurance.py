"""The server's memory over many requests."""

from __future__ import annotations

import asyncio

from benchmarks.figures import Spread
from benchmarks.processes import use_of
from benchmarks.record import Line, Target
from benchmarks.scenarios.base import SYSTEM, question
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

REQUESTS = 5000
QUICK_REQUESTS = 100
POOL_SIZE = 3
LIMIT_MB = 150.0
LIMIT_GROWTH = 1.1


class Endurance:
    """Memory growth over many requests."""

    name = "endurance"
    about = (
        f"{REQUESTS} requests of five tokens, {POOL_SIZE} at once, half over each API. Memory is "
        "the server's resident set; flat means that it ends within a tenth of its value after the "
        "first fifth."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Send all requests, reading the memory five times."""
        bridge = await stage.bridge(POOL_SIZE)
        front_ends: list[Subject] = [*await stage.front_ends(bridge)]
        total = QUICK_REQUESTS if stage.quick else REQUESTS
        sizes: list[float] = []
        for _ in range(5):
            await _send(front_ends, total // 5)
            await front_ends[0].reset()
            sizes.append(use_of([bridge.pid]).memory / 2**20)
        most, growth = max(sizes), sizes[-1] / sizes[0]
        size_target = Target(f"< {LIMIT_MB:g} MB", LIMIT_MB, Spread(most, most, most))
        growth_target = Target(f"≤ {LIMIT_GROWTH} x", LIMIT_GROWTH, Spread(growth, growth, growth))
        note = f"{total} requests: " + ", ".join(f"{size:.0f}" for size in sizes)
        return [
            Line(
                "memory of the server, most", "bridge", "MB", (most,), target=size_target, note=note
            ),
            Line(
                "its growth after the first fifth", "bridge", "x", (growth,), target=growth_target
            ),
        ]


async def _send(front_ends: list[Subject], count: int) -> None:
    left = iter(range(count))

    async def caller(front_end: Subject) -> None:
        for _ in left:
            await front_end.ask(Request(SYSTEM, (question(tokens=5),)))

    await asyncio.gather(*(caller(front_ends[n % len(front_ends)]) for n in range(POOL_SIZE)))
