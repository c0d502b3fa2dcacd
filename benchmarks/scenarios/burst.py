"""More concurrent requests than the pool serves."""

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
    """The cost of waiting in the queue."""

    name = "burst"
    about = (
        f"{AT_ONCE} requests at once on POOL_SIZE={POOL_SIZE}, {TOKENS} tokens each without pauses."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Send bursts to the two APIs in turn."""
        front_ends: list[Subject] = [*await stage.front_ends(await stage.bridge(POOL_SIZE))]
        await warm_up(front_ends)
        samples = Samples()
        for front_end in rounds(stage.fewer(10), front_ends):
            answers = await asyncio.gather(
                *(
                    front_end.ask(Request(SYSTEM, (question(tokens=TOKENS),)))
                    for _ in range(AT_ONCE)
                )
            )
            firsts = [answer.first for answer in answers]
            began = min(answer.started for answer in answers)
            samples.add(FIRST, front_end.name, quantile(firsts, 0.5) * 1000)
            samples.add(LAST, front_end.name, quantile(firsts, 0.95) * 1000)
            samples.add(ALL, front_end.name, (max(a.ended for a in answers) - began) * 1000)
            await front_end.reset()
        return [samples.line(what, d.name, "ms") for what in (FIRST, LAST, ALL) for d in front_ends]
