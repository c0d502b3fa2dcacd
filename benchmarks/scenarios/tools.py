"""A tool call and its result: on the turn that waits for it, and told anew."""

from __future__ import annotations

import itertools

from benchmarks.figures import ratios, spread
from benchmarks.record import Aim, Line, Samples
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
    """What a tool round trip costs."""

    name = "tools"
    about = (
        "The model calls a tool; its result comes as the next request. Parked, the call was made "
        "by this server and the turn waits; replayed, the call has an id of somebody else's."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Measure the three in turns."""
        bridge = await stage.bridge()
        doors: list[Subject] = [*await stage.doors(bridge)]
        await warm_up(doors)
        since = len(bridge.logged())
        samples = Samples()
        for door in rounds(stage.rounds, doors):
            await _round_trip(door, samples)
        lines = []
        for what in (PLAIN, PARKED, REPLAYED):
            for door in doors:
                to_plain = spread(
                    ratios(samples.values(what, door.name), samples.values(PLAIN, door.name))
                )
                aim = Aim(f"≤ {LIMIT} x plain turn", LIMIT, to_plain) if what == PARKED else None
                note = f"{to_plain.median:.2f} x plain turn" if what == REPLAYED else ""
                lines.append(samples.line(what, door.name, "ms", aim=aim, note=note))
        got = [str(line["session"]) for line in bridge.logged()[since:]]
        lines.append(Line("sessions continued", "bridge", "", (float(got.count("continued")),)))
        return lines


async def _round_trip(door: Subject, samples: Samples) -> None:
    plain = await door.ask(Request(SYSTEM, (question(tokens=20),), tool=True))
    samples.add(PLAIN, door.name, plain.first * 1000)
    await door.afresh()
    for what in (PARKED, REPLAYED):
        call = {"name": TOOL_NAME, "input": TOOL_ARGUMENTS}
        asked = question(turns=[{"tools": [call]}, {"tokens": 20}])
        call_id = f"call_{next(_ids)}"
        if what == PARKED:
            call_id = (await door.ask(Request(SYSTEM, (asked,), tool=True))).call_id
            await door.pause()
        result = (call_id, _RESULT)
        after = await door.ask(Request(SYSTEM, (asked,), tool=True, result=result))
        samples.add(what, door.name, after.first * 1000)
        await door.afresh()
