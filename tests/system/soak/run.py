"""Runs the soak: a server, its callers, the faults, and what is looked at in the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import grpc
import httpx

from bridge.simulator import Simulator
from tests.support.harness import PATIENCE
from tests.system.soak.asking import GrpcApi, HttpApi
from tests.system.soak.serving import Server, Standing, serving
from tests.system.soak.traffic import NAME, Caller, Tally

CALLERS = 10
POOL_SIZE = 3
MAX_PROCESSES = 7
QUEUE_SIZE = 5

GROWTH_MB = 60.0
"""How much the server may grow after its first third, whatever was asked of it."""
GROWTH_RATIO = 1.3
SPARE_TASKS = 40
"""Asyncio tasks more than in the first quiet moment; some are of processes, which vary."""
SPARE_FDS = 30
"""The same of file descriptors: three or four a process, and those of gRPC's threads."""


@dataclass
class Soak:
    """What a soak came to."""

    seconds: float
    seed: int
    tally: Tally = field(default_factory=Tally)
    killed: int = 0
    stopped: int = 0
    upstream: int = 0
    most_processes: int = 0
    after_a_third: Standing | None = None
    at_the_end: Standing | None = None
    problems: list[str] = field(default_factory=list)

    def report(self) -> str:
        """What it came to, for a user."""
        right, errors = self.tally.right, self.tally.errors
        lines = [
            f"{self.seconds:g} s with seed {self.seed}: {right.total()} right, "
            f"{errors.total()} in an error, {len(self.tally.wrong)} wrong; "
            f"{self.upstream} requests reached the model",
            f"{self.killed} processes were killed and {self.stopped} stopped; "
            f"at most {self.most_processes} at once",
            f"after a third: {self.after_a_third}",
            f"at the end:    {self.at_the_end}",
            *(f"  right  {count:6} {kind}" for kind, count in sorted(right.items())),
            *(f"  error  {count:6} {kind}" for kind, count in sorted(errors.items())),
            *(f"PROBLEM: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


async def soak(seconds: float, seed: int) -> Soak:
    """Run it for so long, and a little longer for the end."""
    result = Soak(seconds, seed)
    random = Random(seed)
    with TemporaryDirectory(prefix="soak-") as folder:
        async with (
            # What was asked lately is looked at, and forgotten.
            Simulator(pace_ms=0, keep_requests=1000) as simulator,
            serving(
                Path(folder),
                simulator.base_url,
                POOL_SIZE=str(POOL_SIZE),
                BRIDGE_MAX_PROCESSES=str(MAX_PROCESSES),
                BRIDGE_QUEUE_SIZE=str(QUEUE_SIZE),
                BRIDGE_PARK_SECONDS="5",
                BRIDGE_ANSWER_TIMEOUT="10",
            ) as server,
        ):
            await _part(server, simulator, seconds / 3, random, result)
            result.after_a_third = before = await server.settled()
            await _part(server, simulator, seconds * 2 / 3, random, result)
            result.at_the_end = await server.settled_like(lambda now: not _leaks(before, now))
            result.problems += server.failures
    judge(result)
    return result


async def _part(
    server: Server, simulator: Simulator, seconds: float, random: Random, result: Soak
) -> None:
    """Have all callers call for a time, and faults happen."""
    until = time.monotonic() + seconds
    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.http}",
            timeout=PATIENCE,
            limits=httpx.Limits(max_connections=None),
        ) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc}") as channel,
    ):
        apis = HttpApi(client), GrpcApi(channel)
        callers = [
            Caller(*apis, result.tally, Random(random.getrandbits(64))) for _ in range(CALLERS)
        ]
        faults = asyncio.create_task(_faults(server, Random(random.getrandbits(64)), result))
        audit = asyncio.create_task(_audit(simulator, result))
        calling = asyncio.gather(*(caller.run(until) for caller in callers))
        try:
            async with asyncio.timeout(seconds + PATIENCE):
                await calling
        except TimeoutError:
            result.problems.append("requests did not come to an end")
        finally:
            for task in (faults, audit):
                task.cancel()
            ends = await asyncio.gather(faults, audit, return_exceptions=True)
            # Neither ends by itself.
            result.problems += [repr(end) for end in ends if isinstance(end, Exception)]
    _look_at(simulator, result)


async def _faults(server: Server, random: Random, result: Soak) -> None:
    """Kill processes and stop them, in turn: which and when, at random."""
    stopped: set[int] = set()
    kill = random.random() < 0.5
    try:
        while True:
            await asyncio.sleep(random.uniform(0.3, 3.0))
            processes = await server.children()
            result.most_processes = max(result.most_processes, len(processes))
            if not processes:
                continue
            victim = random.choice(processes)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL if kill else signal.SIGSTOP)
                if kill:
                    result.killed += 1
                else:
                    stopped.add(victim)
                    result.stopped += 1
                kill = not kill
            for pid in [pid for pid in stopped if random.random() < 0.5]:
                _go_on(pid)
                stopped.remove(pid)
    finally:
        for pid in stopped:
            _go_on(pid)


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


async def _audit(simulator: Simulator, result: Soak) -> None:
    while True:
        await asyncio.sleep(0.5)
        _look_at(simulator, result)


def _look_at(simulator: Simulator, result: Soak) -> None:
    """No request that reached the model is of two conversations."""
    for exchange in simulator.ledger.exchanges():
        names = set(NAME.findall(json.dumps(exchange.body)))
        if len(names) > 1:
            result.tally.wrong.append(f"{sorted(names)} went to the model together")
        result.upstream += 1
    simulator.ledger.clear()


def _leaks(before: Standing, now: Standing) -> list[str]:
    checks: tuple[tuple[str, float, float], ...] = (
        ("asyncio tasks", now.tasks, before.tasks + SPARE_TASKS),
        ("file descriptors", now.fds, before.fds + SPARE_FDS),
        ("processes", now.processes, MAX_PROCESSES),
        ("MB", now.rss_mb, max(before.rss_mb + GROWTH_MB, before.rss_mb * GROWTH_RATIO)),
    )
    return [
        f"{found:.0f} {what}, {limit:.0f} at most" for what, found, limit in checks if found > limit
    ]


def judge(result: Soak) -> None:
    """Note what is not as it must be."""
    assert result.after_a_third is not None
    assert result.at_the_end is not None
    result.problems += result.tally.wrong[:20]
    result.problems += _leaks(result.after_a_third, result.at_the_end)
    # One may be on its way out while another is started in its place.
    if result.most_processes > MAX_PROCESSES + 1:
        result.problems.append(f"{result.most_processes} processes at once")
    # Or nothing was shown.
    if result.tally.right.total() <= result.tally.unlucky:
        result.problems.append("more errors than answers")
    if not (result.killed and result.stopped) and result.seconds >= 20:
        result.problems.append("no process was killed or none was stopped")
