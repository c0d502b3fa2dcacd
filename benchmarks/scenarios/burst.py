"""More requests at once than the pool has turns."""

from __future__ import annotations

import asyncio

from benchmarks.figures import quantile
from benchmarks.record import Line, Samples
from benchmarks.scenarios.base import SYSTEM, question, rounds, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

POOL_SIZE = 3
AT_ONCE = 30
TOKENS = 50
FIRST = "first token, median of the burst"
LAST = "first token, p95 of the burst"
ALL = "the whole burst"


class Burst:
    """What waiting in the queue comes to."""

    name = "burst"
    about = (
        f"{AT_ONCE} requests at once on POOL_SIZE={POOL_SIZE}, {TOKENS} tokens each without pauses."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Send bursts at both doors in turns."""
        doors: list[Subject] = [*await stage.doors(await stage.bridge(POOL_SIZE))]
        await warm_up(doors)
        samples = Samples()
        for door in rounds(stage.fewer(10), doors):
            answers = await asyncio.gather(
                *(door.ask(Request(SYSTEM, (question(tokens=TOKENS),))) for _ in range(AT_ONCE))
            )
            firsts = [answer.first for answer in answers]
            began = min(answer.started for answer in answers)
            samples.add(FIRST, door.name, quantile(firsts, 0.5) * 1000)
            samples.add(LAST, door.name, quantile(firsts, 0.95) * 1000)
            samples.add(ALL, door.name, (max(a.ended for a in answers) - began) * 1000)
            await door.afresh()
        return [samples.line(what, d.name, "ms") for what in (FIRST, LAST, ALL) for d in doors]
