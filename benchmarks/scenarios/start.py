"""From the command to the first answer."""

from __future__ import annotations

import asyncio
import os
import sys

from benchmarks.figures import ratios, spread
from benchmarks.record import Line, Samples, Target
from benchmarks.scenarios.base import SYSTEM, question
from benchmarks.stage import Stage
from benchmarks.subjects import Request
from benchmarks.subjects.base import now

IMPORTS = "imports alone"
PROCESS = "a Claude Code process, from its start to booted"
HEALTHY = "healthy, after the imports"
FIRST = "first answer, after healthy"
LIMIT_HEALTHY = 1000.0

_IMPORT = "import bridge.server.supervisor, bridge.cli.serve"


class Start:
    """The startup time."""

    name = "start"
    about = (
        "`bridge serve`; healthy is the first 200 of `GET /health`. The imports are timed in a "
        "Python that does nothing else."
    )

    async def run(self, stage: Stage) -> list[Line]:
        """Start a bridge several times."""
        await stage.bridge()
        samples = Samples()
        for _ in range(stage.fewer(10)):
            imports = await _imports()
            samples.add(IMPORTS, "bridge", imports * 1000)
            samples.add(PROCESS, "bridge", await _process(stage) * 1000)
            await stage.stop_bridge()
            began = now()
            bridge = await stage.bridge(until_warm=False)
            await bridge.healthy()
            healthy = now()
            http, _ = await stage.front_ends(bridge)
            answer = await http.ask(Request(SYSTEM, (question(tokens=20),)))
            samples.add(HEALTHY, "bridge", (healthy - began - imports) * 1000)
            samples.add(FIRST, "bridge", (answer.started + answer.first - healthy) * 1000)
            await stage.stop_bridge()
        healthy_target = Target("≤ 1 s", LIMIT_HEALTHY, spread(samples.values(HEALTHY, "bridge")))
        to_process = spread(
            ratios(samples.values(FIRST, "bridge"), samples.values(PROCESS, "bridge"))
        )
        first_target = Target("≤ one process start", 1.0, to_process)
        return [
            samples.line(IMPORTS, "bridge", "ms"),
            samples.line(PROCESS, "bridge", "ms"),
            samples.line(HEALTHY, "bridge", "ms", target=healthy_target),
            samples.line(FIRST, "bridge", "ms", target=first_target),
        ]


async def _imports() -> float:
    began = now()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _IMPORT)
    await process.wait()
    return now() - began


async def _process(stage: Stage) -> float:
    # Imported here: only this scenario needs it in the benchmark's process.
    from bridge.core.claude import Launcher, Session
    from bridge.server.launching import bundled_cli

    began = now()
    session = await Session.spawn(Launcher(bundled_cli(), dict(os.environ), stage.folder))
    booted = now() - began
    await session.close()
    return booted
