"""How many connections a port of this machine has, as far as the system says so."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_ESTABLISHED: Final = "01"
_NOT_ACCEPTED: Final = "0"


def connections_to(port: int) -> list[int] | None:
    """The connections to a local port, for each family of addresses; None but on Linux."""
    counts: list[int] = []
    for table in _TABLES:
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            # A kernel without IPv6 has the other one.
            continue
        counts.append(sum(_is_open(line.split(), f":{port:04X}") for line in lines))
    return counts or None


def _is_open(fields: list[str], port: str) -> bool:
    # https://docs.kernel.org/networking/proc_net_tcp.html
    _, local, _, state, *_ = fields
    return local.endswith(port) and state == _ESTABLISHED and fields[9] != _NOT_ACCEPTED
