"""A client that disconnects during an answer."""

from __future__ import annotations

from benchmarks.figures import spread
from benchmarks.record import Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question, rounds, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject
from bridge.simulator import Simulator

CLOSED = "the API's connection is closed after"
FREE = "the next request's first token after"
CLOSED_LIMIT_MS = 250.0
FREE_LIMIT_MS = 500.0
PIECES = 10
DELAY_MS = 5.0


class Cancel:
    """The time until an abandoned answer no longer costs anything."""

    name = "cancel"
    about = (
        "The client disconnects during an answer, on POOL_SIZE=1, and immediately sends another "
        "request; both times count from the disconnect. The SDK client interrupts, and asks again "
        "without clearing. Here the simulated API runs in the benchmark's process."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Cancel an answer of each subject in turn."""
        async with Simulator(keep_requests=100) as simulator:
            with stage.other_api(simulator.base_url):
                bridge = await stage.bridge(pool_size=1)
                http, grpc = await stage.front_ends(bridge)
                subjects: list[Subject] = [await stage.sdk(SYSTEM), http, grpc]
                await warm_up(subjects)
                samples = Samples()
                for subject in rounds(stage.fewer(2 if stage.quick else 1), subjects):
                    await _cancel(subject, simulator, samples)
        lines = []
        for what, limit in ((CLOSED, CLOSED_LIMIT_MS), (FREE, FREE_LIMIT_MS)):
            for subject in subjects:
                figure = spread(samples.values(what, subject.name))
                target = (
                    Target(f"≤ {limit:g} ms", limit, figure) if subject in (http, grpc) else None
                )
                lines.append(samples.line(what, subject.name, "ms", target=target))
        return lines


async def _cancel(subject: Subject, simulator: Simulator, samples: Samples) -> None:
    text = question(endless=True, delay_ms=DELAY_MS)
    cut = await subject.ask(Request(SYSTEM, (text,)), stop_after=PIECES)
    after = await subject.ask(Request(SYSTEM, (question(tokens=20),)))
    exchanges = await simulator.ledger.wait_for_async(
        lambda seen: any(e.ended and text in e.last_user_text for e in seen)
    )
    closed = next(e.ended_at for e in exchanges if text in e.last_user_text)
    assert closed is not None
    samples.add(CLOSED, subject.name, (closed - cut.ended) * 1000)
    samples.add(FREE, subject.name, (after.moments[0] - cut.ended) * 1000)
    await subject.reset()
