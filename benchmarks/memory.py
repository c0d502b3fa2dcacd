"""`python -m benchmarks.memory`: what the Claude Code processes of a bridge take of the memory.

Linux only. Processes share the program's own pages, so the sum of their resident sizes counts
those many times. The proportional size (PSS) counts each shared page once over all processes; the
unshared one (USS) is what one more process adds. Both in MB of 2**20 bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from benchmarks.processes import Started, descendants
from bridge.core.claude import hermetic_environment

_FIELDS: Final = {"Rss": "rss", "Pss": "pss", "Private_Clean": "clean", "Private_Dirty": "dirty"}
_CHAT: Final = "/v1/chat/completions"
_MB: Final = 1024
_WORDS_PER_TURN: Final = 600
_SETTLE_SECONDS: Final = 2.0
"""Until the freed pages of an answer have been returned."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The sizes of a process in MB."""

    rss: float
    pss: float
    uss: float


def memory_of(pid: int) -> Memory:
    """Read the sizes of a process; raises OSError if it has ended."""
    sizes = dict.fromkeys(_FIELDS.values(), 0.0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, size = line.partition(":")
        if name in _FIELDS:
            sizes[_FIELDS[name]] = int(size.split()[0]) / _MB
    return Memory(sizes["rss"], sizes["pss"], sizes["clean"] + sizes["dirty"])


def claude_processes(server: int) -> tuple[int, ...]:
    """The ids of the Claude Code processes of a server."""
    return tuple(pid for pid in descendants(server) if _is_claude(pid))


def _is_claude(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == "claude"
    except OSError:
        return False


async def _measure(turns: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **hermetic_environment(os.environ, Path(folder), ""),
            "PORT": "0",
            "GRPC_PORT": "0",
            "POOL_SIZE": str(turns),
            "BRIDGE_SPARES": "0",
            "BRIDGE_STATE_DIR": folder,
            "BRIDGE_MAX_PROCESSES": str(turns),
        }
        arguments = ("bridge", "serve", "--grpc", "--http", "--demo")
        server = await Started.start(arguments, environment, Path(folder, "log"))
        try:
            url = (await server.printed(r"HTTP +(http://[^/]+)"))[1]
            await server.printed(rf"{turns} Claude Code process(es)? (is|are) warm")
            async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client:
                await _states(client, server.pid, turns)
        finally:
            await server.stop()


async def _states(client: httpx.AsyncClient, server: int, turns: int) -> None:
    """Print the sizes in each state: idle, in a turn, after turns, with long histories."""
    await asyncio.sleep(_SETTLE_SECONDS)
    _report("started, idle", server)
    slow = '[[sim {"tokens": 400, "delay_ms": 20}]]'
    asked = [asyncio.create_task(_ask(client, [_user(slow)])) for _ in range(turns)]
    await asyncio.sleep(4)
    _report("in a turn", server)
    await asyncio.gather(*asked)
    await asyncio.sleep(_SETTLE_SECONDS)
    _report("parked after a turn", server)
    for tokens in (20_000, 100_000, 190_000):
        history = _history(tokens)
        asked = [
            asyncio.create_task(_ask(client, [*history, _user(f"{number} {slow}")]))
            for number in range(turns)
        ]
        await asyncio.sleep(6)
        _report(f"in a turn, history of {tokens:,} tokens", server)
        await asyncio.gather(*asked)
        await asyncio.sleep(_SETTLE_SECONDS)
        _report("... parked", server)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _history(tokens: int) -> list[dict[str, str]]:
    words = " ".join(["word"] * _WORDS_PER_TURN)
    turns = tokens // (2 * _WORDS_PER_TURN)
    return [_user(words), {"role": "assistant", "content": words}] * turns


async def _ask(client: httpx.AsyncClient, messages: Sequence[Mapping[str, str]]) -> None:
    reply = await client.post(_CHAT, json={"model": "default", "messages": messages})
    reply.raise_for_status()


def _report(state: str, server: int) -> None:
    found = [memory_of(pid) for pid in claude_processes(server)]
    whole = memory_of(server)
    columns = [
        statistics.median(getattr(memory, name) for memory in found)
        for name in ("rss", "pss", "uss")
    ]
    sizes = "  ".join(f"{size:6.0f}" for size in columns)
    print(f"{state:42} {len(found):3} processes  {sizes}  server {whole.pss:5.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--turns", type=int, default=8, help="POOL_SIZE, and processes")
    asyncio.run(_measure(parser.parse_args().turns))


if __name__ == "__main__":
    main()
