"""The server's memory over many requests."""

from __future__ import annotations

import asyncio

from benchmarks.figures import Spread
from benchmarks.processes import use_of
from benchmarks.record import Aim, Line
from benchmarks.scenarios.base import SYSTEM, question
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

REQUESTS = 5000
QUICK_REQUESTS = 100
POOL_SIZE = 3
LIMIT_MB = 150.0
LIMIT_GROWTH = 1.1


class Endurance:
    """Whether memory stays flat."""

    name = "endurance"
    about = (
        f"{REQUESTS} requests of five tokens, {POOL_SIZE} at once, half at each door. Memory is "
        "the server's resident set; flat means that it ends within a tenth of what it was after "
        "the first fifth."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Send them all, and look five times."""
        bridge = await stage.bridge(POOL_SIZE)
        doors: list[Subject] = [*await stage.doors(bridge)]
        total = QUICK_REQUESTS if stage.quick else REQUESTS
        sizes: list[float] = []
        for _ in range(5):
            await _send(doors, total // 5)
            await doors[0].afresh()
            sizes.append(use_of([bridge.pid]).memory / 2**20)
        most, growth = max(sizes), sizes[-1] / sizes[0]
        size_aim = Aim(f"< {LIMIT_MB:g} MB", LIMIT_MB, Spread(most, most, most))
        growth_aim = Aim(f"≤ {LIMIT_GROWTH} x", LIMIT_GROWTH, Spread(growth, growth, growth))
        note = f"{total} requests: " + ", ".join(f"{size:.0f}" for size in sizes)
        return [
            Line("memory of the server, most", "bridge", "MB", (most,), aim=size_aim, note=note),
            Line("its growth after the first fifth", "bridge", "x", (growth,), aim=growth_aim),
        ]


async def _send(doors: list[Subject], count: int) -> None:
    left = iter(range(count))

    async def caller(door: Subject) -> None:
        for _ in left:
            await door.ask(Request(SYSTEM, (question(tokens=5),)))

    await asyncio.gather(*(caller(doors[n % len(doors)]) for n in range(POOL_SIZE)))
