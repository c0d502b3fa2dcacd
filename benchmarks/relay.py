"""A minimal Python server: copies each line from a child's pipe to a socket immediately.

No parsing, no protocol. Its CPU time depends only on the machine, above all on the cost of waking
another process; it is the reference for the bridge's CPU time.

`python -m benchmarks.relay ANSWERS TOKENS DELAY_MS` prints its port, serves one connection, and
prints the CPU seconds used.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time

_LINE = (
    b'{"type":"stream_event","event":{"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"w100 "}},"session_id":"00000000"}\n'
)


def main() -> None:
    """Run the relay, or with --write the child that produces the lines."""
    arguments = sys.argv[1:]
    if arguments[0] == "--write":
        _write(int(arguments[1]), int(arguments[2]), float(arguments[3]) / 1000)
    else:
        asyncio.run(_relay(arguments))


def _write(answers: int, tokens: int, delay: float) -> None:
    for _ in range(answers):
        started = time.monotonic()
        for n in range(tokens):
            time.sleep(max(started + n * delay - time.monotonic(), 0))
            sys.stdout.buffer.write(_LINE)
            sys.stdout.buffer.flush()


async def _relay(arguments: list[str]) -> None:
    over = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.relay", "--write", *arguments),
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        before = resource.getrusage(resource.RUSAGE_SELF)
        async for line in child.stdout:
            writer.write(line)
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"used {used:.6f}", flush=True)
        writer.close()
        await child.wait()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
        await over.wait()


if __name__ == "__main__":
    main()
