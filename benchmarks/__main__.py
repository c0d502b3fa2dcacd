"""`python -m benchmarks`: runs all scenarios on loopback, without an account.

Progress goes to stderr, the report to stdout. The exit status is 1 if a scenario failed; a missed
target is not a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import Machine, this_machine
from benchmarks.plot import PlotError, draw
from benchmarks.report import Outcome, Report
from benchmarks.scenarios import QUICK, SCENARIOS, Scenario
from benchmarks.stage import Stage
from benchmarks.subjects import NotSupportedError

ROUNDS = 30
QUICK_ROUNDS = 4


def main() -> int:
    """Run the selected scenarios and return the exit status."""
    options = _options()
    # gRPC's messages about closed connections would clutter the report.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    machine = this_machine()
    try:
        outcomes = asyncio.run(_run(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; all processes have been ended", file=sys.stderr)
        return 130
    return _publish(options, machine, outcomes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the overhead of the bridge over driving Claude Code directly.",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"a quick check, under a minute: {', '.join(QUICK)}"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default {ROUNDS}")
    parser.add_argument(
        "--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the report to FILE"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="plot the throughput results (needs matplotlib)"
    )
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


async def _run(options: argparse.Namespace) -> list[Outcome]:
    this = asyncio.current_task()
    assert this is not None
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        # Only once: a second signal would interrupt the cleanup.
        if not stopping:
            stopping = True
            this.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    wanted = options.only or (QUICK if options.quick else SCENARIOS)
    scenarios = [scenario for scenario in SCENARIOS.values() if scenario.name in wanted]
    with tempfile.TemporaryDirectory(prefix="bridge-bench-", ignore_cleanup_errors=True) as name:
        stage = Stage(Path(name), rounds=options.rounds, quick=options.quick)
        async with stage:
            return [await _outcome(scenario, stage) for scenario in scenarios]


async def _outcome(scenario: Scenario, stage: Stage) -> Outcome:
    print(f"{scenario.name} …", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    lines, error = [], ""
    try:
        async with stage.scene():
            lines = await scenario.run(stage)
    except NotSupportedError as refusal:
        error = f"not supported yet: {refusal}"
    except Exception as failure:  # noqa: BLE001 - the other scenarios still have to run
        error = f"{type(failure).__name__}: {failure}"
        print(stage.last_output(), file=sys.stderr)
        await stage.stop_bridge()
    seconds = time.monotonic() - began
    print(error or f"{seconds:.0f} s", file=sys.stderr, flush=True)
    return Outcome(scenario.name, scenario.about, seconds, lines, error)


def _publish(options: argparse.Namespace, machine: Machine, outcomes: Sequence[Outcome]) -> int:
    report = Report(machine, options.rounds, options.quick, outcomes)
    markdown = report.to_markdown()
    print(markdown)
    if options.markdown:
        options.markdown.write_text(markdown)
    if options.json:
        options.json.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    if options.plot:
        try:
            draw([line for outcome in outcomes for line in outcome.lines], options.plot)
        except PlotError as error:
            print(error, file=sys.stderr)
            return 1
    failed = [o for o in outcomes if o.error and not o.error.startswith("not supported yet")]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
