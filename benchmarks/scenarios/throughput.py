"""Concurrent requests: a bridge with POOL_SIZE=8 against eight SDK clients."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from benchmarks.figures import gaps, quantile
from benchmarks.record import SDK, Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question, rounds
from benchmarks.stage import Stage
from benchmarks.subjects import Answer, FailedError, Request, Sdk, Subject

POOL_SIZE = 8
LEVELS = (1, 3, 8, 16, 32)
CROWD = 16
TOKENS = 200
DELAY_MS = 5.0
RATE = "requests per second"
CHUNKS = "chunks per second"
GAP = "gap between chunks, p95"
FIRST = "first token, p95"
NEVER = "SDK client, never cleared"
LIMIT = 1.3
GAP_LIMIT = 1.2


class _Crowd(Protocol):
    """Handles many requests at once."""

    name: str

    async def ask_all(self, requests: Sequence[Request]) -> list[Answer]: ...

    async def reset(self) -> None: ...


class _FrontEnd:
    """Sends all requests at once to one API of the bridge."""

    def __init__(self, front_end: Subject) -> None:
        self.name = front_end.name
        self._front_end = front_end

    async def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        return await asyncio.gather(*(self._front_end.ask(request) for request in requests))

    async def reset(self) -> None:
        await self._front_end.reset()


class _Clients:
    """Each client takes the next request from the queue; between requests it may clear."""

    def __init__(self, name: str, clients: Sequence[Sdk], *, clears: bool) -> None:
        self.name = name
        self._clients = clients
        self._clears = clears

    async def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        queue = list(requests)
        answers: list[Answer] = []

        async def work(client: Sdk) -> None:
            fresh = True
            while queue:
                request = queue.pop()
                if self._clears and not fresh:
                    await client.reset()
                fresh = False
                answers.append(await client.ask(request))

        await asyncio.gather(*(work(client) for client in self._clients))
        return answers

    async def reset(self) -> None:
        await asyncio.gather(*(client.reset() for client in self._clients))


class Throughput:
    """Throughput, from one request at once to more than the pool serves."""

    name = "throughput"
    about = (
        f"Concurrent requests, {TOKENS} tokens at {DELAY_MS:g} ms each, on POOL_SIZE={POOL_SIZE}, "
        f"against up to {POOL_SIZE} SDK clients that take them from a queue. The time to the first "
        "token counts from the arrival of all requests, including the wait."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure the crowds in turn."""
        http, grpc = await stage.front_ends(await stage.bridge(POOL_SIZE))
        clients = [await stage.sdk(SYSTEM) for _ in range(POOL_SIZE)]
        crowds: list[_Crowd] = [
            _Clients(SDK, clients, clears=True),
            _Clients(NEVER, clients, clears=False),
            _FrontEnd(http),
            _FrontEnd(grpc),
        ]
        # Gives each process its first turn before measuring.
        for crowd in (crowds[0], crowds[-1]):
            await crowd.ask_all([_request(tokens=20) for _ in range(POOL_SIZE)])
            await crowd.reset()
        samples = Samples()
        if stage.quick:
            del crowds[1]
        for count in (CROWD,) if stage.quick else LEVELS:
            for crowd in rounds(stage.fewer(10 if count != CROWD or stage.quick else 3), crowds):
                answers = await crowd.ask_all(
                    [_request(tokens=TOKENS, delay_ms=DELAY_MS) for _ in range(count)]
                )
                _record(samples, crowd.name, answers)
                await crowd.reset()
        return [
            _line(samples, what, count, crowd, unit)
            for count in LEVELS
            for what, unit in ((RATE, "/s"), (CHUNKS, "/s"), (GAP, "ms"), (FIRST, "ms"))
            for crowd in crowds
            if samples.values(at(what, count), crowd.name)
        ]


def at(what: str, count: int) -> str:
    """The name of a figure at `count` concurrent requests."""
    return f"{what}, {count} at once"


def _line(samples: Samples, what: str, count: int, crowd: _Crowd, unit: str) -> Line:
    target = _target_of(samples, what, count, crowd)
    most = POOL_SIZE / (TOKENS * DELAY_MS / 1000)
    note = (
        f"the maximum for {POOL_SIZE} turns at this pace is {most:g} /s"
        if target and what == RATE
        else ""
    )
    return samples.line(at(what, count), crowd.name, unit, target=target, note=note)


def _target_of(samples: Samples, what: str, count: int, crowd: _Crowd) -> Target | None:
    if not isinstance(crowd, _FrontEnd):
        return None
    figure = samples.to(at(what, count), crowd.name, SDK)
    if what == RATE and count == CROWD:
        return Target(f"≥ {LIMIT} x {POOL_SIZE} SDK clients", LIMIT, figure, at_most=False)
    if what == GAP and count == POOL_SIZE:
        return Target(f"≤ {GAP_LIMIT} x SDK", GAP_LIMIT, figure)
    return None


def _request(*, tokens: int, delay_ms: float = 0.0) -> Request:
    return Request(SYSTEM, (question(tokens=tokens, delay_ms=delay_ms),))


def _record(samples: Samples, name: str, answers: Sequence[Answer]) -> None:
    count = len(answers)
    began = min(answer.started for answer in answers)
    seconds = max(answer.ended for answer in answers) - began
    pauses = [gap for answer in answers for gap in gaps(answer.moments)]
    chunks = [len(answer.moments) for answer in answers]
    if chunks != [TOKENS] * count:
        raise FailedError(f"{name}: {chunks} chunks instead of {TOKENS} each")
    samples.add(at(RATE, count), name, count / seconds)
    samples.add(at(CHUNKS, count), name, sum(chunks) / seconds)
    samples.add(at(GAP, count), name, quantile(pauses, 0.95) * 1000)
    firsts = [answer.started + answer.first - began for answer in answers]
    samples.add(at(FIRST, count), name, quantile(firsts, 0.95) * 1000)
