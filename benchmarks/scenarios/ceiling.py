"""Chunks per second when the model does not pause."""

from __future__ import annotations

import asyncio

from benchmarks.processes import use_of
from benchmarks.record import Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question, rounds
from benchmarks.scenarios.throughput import POOL_SIZE
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

ONE = "chunks per second, one stream"
MANY = "chunks per second, 16 streams"
CPU = "CPU of the server per chunk, 16 streams"
LIMITS = {ONE: 0.8, MANY: 0.8, CPU: 1.5}
"""Of gRPC, relative to HTTP."""
AT_ONCE = 16
TOKENS = 2000


class Ceiling:
    """The maximum throughput of chunks."""

    name = "ceiling"
    about = (
        f"Answers of {TOKENS} tokens without pauses, one alone and {AT_ONCE} at once on "
        f"POOL_SIZE={POOL_SIZE}; every chunk sent must be received. A gRPC message may have "
        "several: those that waited while an earlier one was sent."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure the subjects in turn."""
        bridge = await stage.bridge(POOL_SIZE)
        http, grpc = await stage.front_ends(bridge)
        front_ends: list[Subject] = [http, grpc]
        sdk = await stage.sdk(SYSTEM)
        samples = Samples()
        subjects: list[Subject] = [sdk, *front_ends]
        for subject in rounds(stage.fewer(10), subjects):
            samples.add(ONE, subject.name, await _rate(subject, 1))
            await subject.reset()
        for front_end in rounds(stage.fewer(10), front_ends):
            before = use_of([bridge.pid]).cpu
            samples.add(MANY, front_end.name, await _rate(front_end, AT_ONCE))
            used = use_of([bridge.pid]).cpu - before
            samples.add(CPU, front_end.name, used * 1e6 / AT_ONCE / TOKENS)
            await front_end.reset()

        def line(what: str, subject: Subject, unit: str) -> Line:
            limit = LIMITS.get(what)
            if limit is None or subject is not grpc:
                return samples.line(what, subject.name, unit)
            at_most = what == CPU
            figure = samples.to(what, grpc.name, http.name)
            words = f"{'≤' if at_most else '≥'} {limit} x {http.name}"
            target = Target(words, limit, figure, at_most=at_most)
            return samples.line(what, subject.name, unit, target=target)

        lines = [line(ONE, subject, "/s") for subject in subjects]
        lines += [line(MANY, front_end, "/s") for front_end in front_ends]
        return [*lines, *(line(CPU, front_end, "µs") for front_end in front_ends)]


async def _rate(subject: Subject, count: int) -> float:
    requests = [Request(SYSTEM, (question(tokens=TOKENS),)) for _ in range(count)]
    answers = await asyncio.gather(*(subject.ask(request) for request in requests))
    first = min(answer.moments[0] for answer in answers)
    chunks = [len(answer.moments) for answer in answers]
    if chunks != [TOKENS] * count:
        raise AssertionError(f"{subject.name}: {chunks} chunks instead of {TOKENS} each")
    return sum(chunks) / (max(answer.ended for answer in answers) - first)
