"""A warm request: only a system prompt that is in use, and an answer without pauses."""

from __future__ import annotations

from benchmarks.record import SDK, Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question, rounds, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import Grpc, Http, Request, Subject

NEVER = "SDK client, never cleared"
FIRST = "first token"
TOTAL = "whole answer"
LIMIT = 1.1


class Warm:
    """The overhead of the bridge when nothing has to be prepared."""

    name = "warm"
    about = "A request with a system prompt in use; 20 tokens without pauses."

    async def run(self, stage: Stage) -> list[Line]:
        """Measure all subjects in turn."""
        bridge = await stage.bridge()
        http, grpc = await stage.front_ends(bridge)
        subjects: list[Subject] = [
            stage.direct(),
            await stage.sdk(SYSTEM),
            await stage.sdk(SYSTEM, name=NEVER, clears=False),
            http,
            grpc,
        ]
        await warm_up(subjects)
        since = len(bridge.logged())
        samples = Samples()
        for subject in rounds(stage.rounds, subjects):
            answer = await subject.ask(Request(SYSTEM, (question(tokens=20),)))
            samples.add(FIRST, subject.name, answer.first * 1000)
            samples.add(TOTAL, subject.name, answer.total * 1000)
            await subject.reset()
        lines = []
        for what in (FIRST, TOTAL):
            for subject in subjects:
                target, note = None, ""
                if what == FIRST and isinstance(subject, Http | Grpc):
                    target = Target(f"≤ {LIMIT} x SDK", LIMIT, samples.to(what, subject.name, SDK))
                    note = bridge.sessions(subject, since)
                lines.append(samples.line(what, subject.name, "ms", target=target, note=note))
        return lines
