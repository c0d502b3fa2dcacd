"""What the choice of a payer costs: an engine alone, and the same one behind one payer or two."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

from benchmarks.record import Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, WARM_UP, question, rounds
from benchmarks.stage import Stage
from bridge.core.access import KeyOwner, KeyUse
from bridge.core.claude import Launcher
from bridge.core.contract import (
    CompletionRequest,
    Event,
    Message,
    PayerKind,
    Role,
    TextDelta,
    TextPart,
)
from bridge.core.engine import Engine, EngineOptions
from bridge.core.payers import Payers, PayingEngine, Sharing
from bridge.core.pool import PoolLimits
from bridge.core.telemetry import Observers
from bridge.server.launching import bundled_cli

FIRST: Final = "first token"
CPU: Final = "CPU per answer"
ALONE: Final = "engine alone"
LIMIT: Final = 1.05

_PASSING: Final = ("starting", "preparing", "running", "resetting", "closing")
_ASKS: Final = 10
"""Answers of each subject in a round: one costs too little to be measured."""


class _Serves(Protocol):
    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]: ...


class PayerChoice:
    """The overhead of several payers, without an API in front."""

    name = "payers"
    about = "An engine in this process, asked directly, and by way of the choice of a payer."

    async def run(self, stage: Stage) -> list[Line]:
        """Measure all subjects in turn, on the same engine."""
        async with _engine(stage) as engine, _engine(stage) as other:
            team = PayingEngine(other, "team", PayerKind.API_KEY, overflow=True)
            subjects: dict[str, _Serves] = {
                ALONE: engine,
                "no list": _payers(PayingEngine(engine)),
                "one payer": _payers(PayingEngine(engine, "mine", PayerKind.LOGIN)),
                "two payers": _payers(PayingEngine(engine, "mine", PayerKind.LOGIN), team),
            }
            samples = Samples()
            for n, name in enumerate(rounds(WARM_UP + stage.rounds, list(subjects))):
                first, cpu = await _measured(subjects[name], engine)
                if n >= WARM_UP * len(subjects):
                    samples.add(FIRST, name, first * 1000)
                    samples.add(CPU, name, cpu * 1000)
        lines = []
        for what in (FIRST, CPU):
            for name in subjects:
                ratio = samples.to(what, name, ALONE)
                target: Target | None = Target(f"≤ {LIMIT} x alone", LIMIT, ratio)
                if name == ALONE or what == FIRST:
                    # The first token varies by far more than this, with what else runs.
                    target = None
                lines.append(samples.line(what, name, "ms", target=target))
        return lines


def _engine(stage: Stage) -> Engine:
    launcher = Launcher(bundled_cli(), dict(os.environ), stage.folder)
    return Engine(launcher, EngineOptions(PoolLimits(1, 2, 0)), Observers(()))


def _payers(*payers: PayingEngine) -> Payers:
    names = tuple(payer.name for payer in payers if payer.name)
    use = KeyUse(KeyOwner.MINE, names, overflow=True)
    return Payers(payers, Observers(()), Sharing(use_of=lambda caller: use))


async def _measured(subject: _Serves, engine: Engine) -> tuple[float, float]:
    """Return the seconds to the first token and the CPU seconds of this process, per answer."""
    firsts = []
    used = time.process_time()
    for _ in range(_ASKS):
        message = Message(Role.USER, (TextPart(question(tokens=20)),))
        request = CompletionRequest((message,), system=SYSTEM, request_id=uuid.uuid4().hex)
        began = time.perf_counter()
        first = None
        async with aclosing(subject.complete(request)) as events:
            async for event in events:
                if first is None and isinstance(event, TextDelta):
                    first = time.perf_counter() - began
        assert first is not None
        firsts.append(first)
        await engine.pool.wait_for(lambda counts: not any(counts[state] for state in _PASSING))
    return sum(firsts) / _ASKS, (time.process_time() - used) / _ASKS
