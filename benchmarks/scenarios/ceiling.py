"""Chunks per second when the model does not pause."""

from __future__ import annotations

import asyncio

from benchmarks.record import Line, Samples
from benchmarks.scenarios.base import SYSTEM, question, rounds
from benchmarks.scenarios.throughput import POOL_SIZE
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

ONE = "chunks per second, one stream"
MANY = "chunks per second, 16 streams"
AT_ONCE = 16
TOKENS = 2000


class Ceiling:
    """The maximum throughput of chunks."""

    name = "ceiling"
    about = (
        f"Answers of {TOKENS} tokens without pauses, one alone and {AT_ONCE} at once on "
        f"POOL_SIZE={POOL_SIZE}; every chunk sent must be a chunk received."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure the subjects in turn."""
        front_ends: list[Subject] = [*await stage.front_ends(await stage.bridge(POOL_SIZE))]
        sdk = await stage.sdk(SYSTEM)
        samples = Samples()
        subjects: list[Subject] = [sdk, *front_ends]
        for subject in rounds(stage.fewer(10), subjects):
            samples.add(ONE, subject.name, await _rate(subject, 1))
            await subject.reset()
        for front_end in rounds(stage.fewer(10), front_ends):
            samples.add(MANY, front_end.name, await _rate(front_end, AT_ONCE))
            await front_end.reset()
        lines = [samples.line(ONE, subject.name, "/s") for subject in subjects]
        return [*lines, *(samples.line(MANY, front_end.name, "/s") for front_end in front_ends)]


async def _rate(subject: Subject, count: int) -> float:
    requests = [Request(SYSTEM, (question(tokens=TOKENS),)) for _ in range(count)]
    answers = await asyncio.gather(*(subject.ask(request) for request in requests))
    first = min(answer.moments[0] for answer in answers)
    chunks = [len(answer.moments) for answer in answers]
    if chunks != [TOKENS] * count:
        raise AssertionError(f"{subject.name}: {chunks} chunks instead of {TOKENS} each")
    return sum(chunks) / (max(answer.ended for answer in answers) - first)
