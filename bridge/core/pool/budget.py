"""The processes and turns that several pools share: each gets what it needs, within the whole.

A pool is limited by what the others leave. Turns go to the request that has waited longest, in
whichever pool. A pool that has a turn but no room for a process gets the place of an unused process
of another.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.core.pool.policy import PoolLimits


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pool has and needs of the budget."""

    processes: int = 0
    """Processes of any state."""
    running: int = 0
    closing: int = 0
    waiting: tuple[int, ...] = ()
    """The ids of its waiting requests, in order of arrival."""
    short: int = 0
    """Requests that have a turn but can get no process within its own limits."""


@dataclass(frozen=True, slots=True)
class Share(PoolLimits):
    """The limits of one of several pools, at one moment: its part may be nothing."""

    keep: int = 1
    """Processes that it keeps even when there are no requests."""

    def __post_init__(self) -> None:
        """It is part of limits that were checked."""

    @property
    def kept_spares(self) -> int:
        """The spares that fit beside its turns."""
        return max(min(self.spares, self.max_processes - self.pool_size), 0)

    @property
    def minimum(self) -> int:
        """Processes kept even when there are no requests."""
        return min(self.keep, self.max_processes)


def share_of(
    limits: PoolLimits, own: Claim, others: Sequence[Claim], *, first: bool = True
) -> Share:
    """Return the limits of a pool; `first` is the one that keeps most processes ready.

    Each of the others keeps one process.
    """
    free = limits.pool_size - own.running - sum(other.running for other in others)
    oldest = own.waiting[0] if own.waiting else 0
    ahead = sum(id < oldest for other in others for id in other.waiting)
    taken = sum(other.processes + other.short for other in others)
    room = limits.max_processes - len(others)
    return Share(
        pool_size=own.running + max(free - ahead, 0),
        max_processes=max(limits.max_processes - taken, 0),
        spares=limits.spares if first else 0,
        park_seconds=limits.park_seconds,
        idle_seconds=limits.idle_seconds,
        starts_at_once=limits.starts_at_once,
        keep=min(limits.minimum, room) if first else 1,
    )


class Sharing(Protocol):
    """A pool, as the budget sees it."""

    def claim(self) -> Claim:
        """Return what it has and needs."""
        ...

    def give_up(self) -> bool:
        """End an unused process; returns whether there was one."""
        ...

    def step(self) -> None:
        """Act on what has changed."""
        ...


class Budget:
    """The limits of several pools together."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._pools: list[Sharing] = []
        self._seen: list[Claim] = []
        self._due = False
        self.ids = itertools.count(1)
        """Numbers the requests and processes of all its pools, so that the order of arrival is
        known."""

    def join(self, pool: Sharing) -> None:
        """Add a pool; the first one keeps most processes ready."""
        self._pools.append(pool)

    def limits_of(self, pool: Sharing) -> PoolLimits:
        """Return the limits of a pool at this moment."""
        others = [each.claim() for each in self._pools if each is not pool]
        return share_of(self._limits, pool.claim(), others, first=pool is self._pools[0])

    def stepped(self) -> None:
        """Let the pools react to what one of them has done, soon."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._due = False
        claims = [pool.claim() for pool in self._pools]
        if claims == self._seen:
            return
        self._seen = claims
        short = sum(claim.short for claim in claims) - sum(claim.closing for claim in claims)
        # The pool with most processes can spare one best.
        for _, pool in sorted(
            zip(claims, self._pools, strict=True), key=lambda pair: -pair[0].processes
        ):
            while short > 0 and pool.give_up():
                short -= 1
        for pool in self._pools:
            pool.step()
