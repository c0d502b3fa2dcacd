"""The bridge under test, in its own process: serves both APIs, and reports its state.

It prints its ports as one line of JSON, and then one for each line that it reads: what a leak
would show in. It ends with its input, or by a signal like `bridge serve`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import resource
import signal
import sys
from pathlib import Path

from bridge.cli.common import settings_from
from bridge.server.supervisor import Bridge, FrontEnds, serving

_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


class Failures(logging.Handler):
    """Keeps what was logged with a traceback: it is never meant to happen."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Others are about processes that were killed.
        text = self.format(record)
        if record.levelno >= logging.ERROR and (record.exc_info or ", raised at (" in text):
            self.texts.append(text)


async def serve(failures: Failures) -> None:
    """Serve until SIGTERM or the end of the input."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with serving(settings_from({}), FrontEnds()) as bridge:
        _print({"http": bridge.http_port, "grpc": bridge.grpc_port})

        def asked() -> None:
            if sys.stdin.readline():
                _print({**_standing(bridge), "failures": failures.texts})
            else:
                stop.set()

        loop.add_reader(sys.stdin, asked)
        await stop.wait()
        loop.remove_reader(sys.stdin)
        await bridge.drain(0)


def _standing(bridge: Bridge) -> dict[str, object]:
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "fds": len(os.listdir("/dev/fd")),
        "processes": bridge.engine.pool.counts(),
        "peak_mb": _peak_mb(),
        "waiting": bridge.engine.pool.waiting,
    }


def _peak_mb() -> float:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists() and (found := _PEAK.search(status.read_text())):
        return int(found[1]) / 1024
    # On Linux it would count in what the process had that started this one; elsewhere in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def _print(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    failures = Failures()
    logging.basicConfig(level=logging.INFO, handlers=[failures])
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)
    asyncio.run(serve(failures))
