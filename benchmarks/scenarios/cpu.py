"""CPU of the server and of its CLI processes per answer, and memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from benchmarks.processes import Use, descendants, use_of
from benchmarks.record import SDK, Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question, rounds, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

CHUNK = "CPU of the Python process, per chunk"
OWN = "CPU of the Python process, per answer"
CHILDREN = "CPU of all CLI processes, per answer"
IDLE_OWN = "CPU of the Python process at rest, per second"
IDLE_CHILD = "CPU of a CLI process at rest, per second"
OWN_MEMORY = "memory of the Python process"
CHILD_MEMORY = "memory of a CLI process"
RELAY = "bare relay"
LIMIT = 0.5
TOKENS = 200
FEW = 20
DELAY_MS = 2.0
# CPU times have a resolution of 10 ms on Linux: a single answer would be too short.
_BATCH = 10
_REST_SECONDS = 0.05
_IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Meter:
    """The processes of a subject."""

    own: int
    children: Callable[[], Iterable[int]]

    def read(self) -> tuple[Use, list[Use]]:
        """The use of its own process, and of each CLI process."""
        return use_of([self.own]), [use_of([pid]) for pid in self.children()]


class Cpu:
    """The CPU and memory of an answer of 200 tokens."""

    name = "cpu"
    about = (
        f"Per answer of {TOKENS} tokens at {DELAY_MS:g} ms, sequentially, including the reset of "
        f"the process, in batches of {_BATCH}. The SDK client runs in the benchmark's process: its "
        "lines show that process's CPU and memory. The bare relay is a Python program that copies "
        "as many lines unchanged. CPU per chunk is the difference to an answer of "
        f"{FEW} tokens, divided by the difference in tokens."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure batches of the subjects in turn."""
        bridge = await stage.bridge()
        before = set(descendants(os.getpid()))
        sdk = await stage.sdk(SYSTEM)
        clis = set(descendants(os.getpid())) - before
        http, grpc = await stage.front_ends(bridge)
        subjects: list[Subject] = [sdk, http, grpc]
        await warm_up(subjects)
        of_sdk, of_bridge = _Meter(os.getpid(), lambda: clis), _Meter(bridge.pid, bridge.children)
        meters = {sdk.name: of_sdk, http.name: of_bridge, grpc.name: of_bridge}
        since = len(bridge.logged())
        samples = Samples()
        answers = 4 if stage.quick else _BATCH
        for subject in rounds(stage.fewer(_BATCH), [*subjects, None]):
            if subject is None:
                used = await stage.relay_cpu(answers, TOKENS, DELAY_MS)
                samples.add(OWN, RELAY, used * 1000 / answers)
                samples.add(CHUNK, RELAY, used * 1e6 / answers / TOKENS)
                continue
            meter = meters[subject.name]
            fixed, _ = await _used(meter, _ask(subject, answers, FEW))
            own, children = await _used(meter, _ask(subject, answers, TOKENS))
            samples.add(CHUNK, subject.name, (own - fixed) * 1e6 / answers / (TOKENS - FEW))
            samples.add(OWN, subject.name, own * 1000 / answers)
            samples.add(CHILDREN, subject.name, children * 1000 / answers)
        await _measure_rest(samples, {SDK: of_sdk, "bridge": of_bridge}, quick=stage.quick)
        notes = {front_end.name: bridge.sessions(front_end, since) for front_end in (http, grpc)}
        return _lines(samples, [subject.name for subject in subjects], notes)


async def _used(meter: _Meter, work: Awaitable[None]) -> tuple[float, float]:
    """CPU seconds of the process and of its CLI processes, including those that end meanwhile."""
    own, children = meter.read()
    await work
    own_after, children_after = meter.read()
    before = own.ended + sum(child.cpu for child in children)
    after = own_after.ended + sum(child.cpu for child in children_after)
    return own_after.cpu - own.cpu, after - before


async def _ask(subject: Subject, answers: int, tokens: int) -> None:
    for _ in range(answers):
        await subject.ask(Request(SYSTEM, (question(tokens=tokens, delay_ms=DELAY_MS),)))
        if subject.holds_conversation:
            await subject.reset()
        else:
            # Polling the server's state would add to its CPU time.
            await asyncio.sleep(_REST_SECONDS)


async def _measure_rest(samples: Samples, meters: dict[str, _Meter], *, quick: bool) -> None:
    seconds = _IDLE_SECONDS / 5 if quick else _IDLE_SECONDS
    for name, meter in meters.items():
        own, children = await _used(meter, asyncio.sleep(seconds))
        samples.add(IDLE_OWN, name, own * 1000 / seconds)
        own_use, child_uses = meter.read()
        samples.add(IDLE_CHILD, name, children * 1000 / seconds / max(len(child_uses), 1))
        samples.add(OWN_MEMORY, name, own_use.memory / 2**20)
        for child in child_uses:
            samples.add(CHILD_MEMORY, name, child.memory / 2**20)


def _lines(samples: Samples, names: list[str], notes: dict[str, str]) -> list[Line]:
    lines = [samples.line(CHUNK, RELAY, "µs", note="pipe to socket, no parsing, no protocol")]
    for name in names:
        target = (
            Target(f"≤ {LIMIT} x SDK", LIMIT, samples.to(CHUNK, name, SDK)) if name != SDK else None
        )
        lines.append(samples.line(CHUNK, name, "µs", target=target))
    lines += [samples.line(OWN, name, "ms") for name in (RELAY, *names)]
    for name in names:
        lines.append(samples.line(CHILDREN, name, "ms", note=notes.get(name, "")))
    for what in (IDLE_OWN, IDLE_CHILD):
        lines += [samples.line(what, name, "ms") for name in (SDK, "bridge")]
    for what in (OWN_MEMORY, CHILD_MEMORY):
        for name in (SDK, "bridge"):
            count = len(samples.values(what, name))
            note = f"{count} processes" if what == CHILD_MEMORY else ""
            lines.append(samples.line(what, name, "MB", note=note))
    return lines
