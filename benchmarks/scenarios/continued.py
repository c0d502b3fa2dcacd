"""A growing conversation, sent in full each time, as chat clients do."""

from __future__ import annotations

from benchmarks.figures import median, ratios, spread
from benchmarks.record import Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question, rounds, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

FIRST = "first turn"
DEPTHS = (2, 10, 40)
LIMIT = 1.2
_NEAR = 3
"""Turns measured at each depth: that turn and those before it, or after the first."""
_FIRST_TURNS = 3


class Continued:
    """The cost of a turn in a long conversation compared with a first turn."""

    name = "continued"
    about = (
        "First token of the 2nd, 10th and 40th turn of a conversation (medians of three turns "
        "each), with the whole history and the received answers."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Hold conversations with the subjects in turn."""
        bridge = await stage.bridge()
        http, grpc = await stage.front_ends(bridge)
        subjects: list[Subject] = [await stage.sdk(SYSTEM), http, grpc]
        depths = DEPTHS[:-1] if stage.quick else DEPTHS
        await warm_up(subjects)
        since = len(bridge.logged())
        samples = Samples()
        for subject in rounds(stage.fewer(3), subjects):
            await _converse(subject, depths, samples)
        lines = [samples.line(FIRST, subjects[0].name, "ms")]
        for front_end in (http, grpc):
            note = bridge.sessions(front_end, since)
            lines.append(samples.line(FIRST, front_end.name, "ms", note=note))
        for depth in DEPTHS:
            what = f"turn {depth}"
            for subject in subjects:
                if depth not in depths:
                    lines.append(Line(what, subject.name, note="left out by --quick"))
                    continue
                to_first = ratios(
                    samples.values(what, subject.name), samples.values(FIRST, subject.name)
                )
                figure = spread(to_first)
                bar = subject in (http, grpc) and depth == DEPTHS[-1]
                target = Target(f"≤ {LIMIT} x first turn", LIMIT, figure) if bar else None
                note = "" if bar else f"{figure.median:.2f} x its first turn"
                lines.append(samples.line(what, subject.name, "ms", target=target, note=note))
        return lines


async def _converse(subject: Subject, depths: tuple[int, ...], samples: Samples) -> None:
    first: list[float] = []
    for _ in range(_FIRST_TURNS - 1):
        await subject.reset()
        first.append((await subject.ask(Request(SYSTEM, (question(tokens=20),)))).first)
    await subject.reset()
    request = Request(SYSTEM, (question(tokens=20),))
    answer = await subject.ask(request)
    samples.add(FIRST, subject.name, median([*first, answer.first]) * 1000)
    taken: dict[int, float] = {}
    for turn in range(2, max(max(depths), 1 + _NEAR) + 1):
        await subject.pause()
        request = request.then(answer.text, question(tokens=20))
        answer = await subject.ask(request)
        taken[turn] = answer.first
    for depth in depths:
        begin = max(2, depth - _NEAR + 1)
        near = [taken[turn] for turn in range(begin, begin + _NEAR)]
        samples.add(f"turn {depth}", subject.name, median(near) * 1000)
    await subject.reset()
