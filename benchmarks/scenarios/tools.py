"""A tool call and its result: on the parked turn, and replayed."""

from __future__ import annotations

import itertools

from benchmarks.figures import ratios, spread
from benchmarks.record import Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question, rounds, warm_up
from benchmarks.stage import Stage
from benchmarks.subjects import TOOL_ARGUMENTS, TOOL_NAME, Request, Subject

PLAIN = "first token, plain turn with a tool on offer"
PARKED = "first token after the result, on the parked turn"
REPLAYED = "first token after the result, replayed"
LIMIT = 1.2
_RESULT = "It rains."

_ids = itertools.count(1)


class Tools:
    """The cost of a tool round trip."""

    name = "tools"
    about = (
        "The model calls a tool; the next request brings the result. Parked: the call was made on "
        "this server and its turn waits. Replayed: the server does not know the call's id."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure the three cases over the two APIs in turn."""
        bridge = await stage.bridge()
        front_ends: list[Subject] = [*await stage.front_ends(bridge)]
        await warm_up(front_ends)
        since = len(bridge.logged())
        samples = Samples()
        for front_end in rounds(stage.rounds, front_ends):
            await _round_trip(front_end, samples)
        lines = []
        for what in (PLAIN, PARKED, REPLAYED):
            for front_end in front_ends:
                to_plain = spread(
                    ratios(
                        samples.values(what, front_end.name), samples.values(PLAIN, front_end.name)
                    )
                )
                target = (
                    Target(f"≤ {LIMIT} x plain turn", LIMIT, to_plain) if what == PARKED else None
                )
                note = f"{to_plain.median:.2f} x plain turn" if what == REPLAYED else ""
                lines.append(samples.line(what, front_end.name, "ms", target=target, note=note))
        got = [str(line["session"]) for line in bridge.logged()[since:]]
        lines.append(Line("sessions continued", "bridge", "", (float(got.count("continued")),)))
        return lines


async def _round_trip(front_end: Subject, samples: Samples) -> None:
    plain = await front_end.ask(Request(SYSTEM, (question(tokens=20),), tool=True))
    samples.add(PLAIN, front_end.name, plain.first * 1000)
    await front_end.reset()
    for what in (PARKED, REPLAYED):
        call = {"name": TOOL_NAME, "input": TOOL_ARGUMENTS}
        asked = question(turns=[{"tools": [call]}, {"tokens": 20}])
        call_id = f"call_{next(_ids)}"
        if what == PARKED:
            call_id = (await front_end.ask(Request(SYSTEM, (asked,), tool=True))).call_id
            await front_end.pause()
        result = (call_id, _RESULT)
        after = await front_end.ask(Request(SYSTEM, (asked,), tool=True, result=result))
        samples.add(what, front_end.name, after.first * 1000)
        await front_end.reset()
