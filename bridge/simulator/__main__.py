"""`python -m bridge.simulator --port 0`: run it alone; prints the base URL, ends on SIGTERM."""

import argparse
import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from bridge.simulator.server import Simulator


async def serve(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(
        host=options.host,
        port=options.port,
        keep_requests=options.keep_requests,
        pace_ms=options.pace_ms,
        accounts=_loaded(options.accounts),
        scripts=_loaded(options.scripts),
    ) as simulator:
        print(simulator.base_url, flush=True)
        await stop.wait()


def _loaded(path: Path | None) -> dict[str, Any]:
    loaded = json.loads(path.read_text("utf-8")) if path else {}
    return loaded if isinstance(loaded, dict) else {}


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m bridge.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 selects a free port")
    parser.add_argument("--keep-requests", type=int, default=1000, help="exchanges to remember")
    parser.add_argument("--pace-ms", type=float, default=15.0, help="delay of unscripted answers")
    parser.add_argument("--accounts", type=Path, help="JSON: {accounts, refresh_tokens}")
    parser.add_argument("--scripts", type=Path, help="JSON: {steps, tools_only} by name")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
