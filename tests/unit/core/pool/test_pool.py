"""The pool's own logic, with stand-ins for sessions: everything outside the policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bridge.core.claude.turn_settings import Profile
from bridge.core.contract.errors import DrainingError, QueueFullError
from bridge.core.contract.states import SessionSource
from bridge.core.pool import Lease, Need, Parking, Pool, Recycling
from bridge.core.pool.policy import PoolLimits
from tests.support.waiting import soon

A, B = Profile("a"), Profile("b")


class StandIn:
    """A session that obeys, or fails on request."""

    def __init__(self) -> None:
        self.profile: Profile | None = None
        self.alive = True
        self.out_of_tool_names = self.gone = self.broken = False
        self.answers = 0
        self.pid = 1
        self.stderr_tail = ""
        self.failed = False
        self.closed = False
        self.fault: Exception | None = None
        self.may_park = asyncio.Event()
        self.may_park.set()
        self.on_gone: Callable[[], None] = lambda: None

    async def initialise(self, profile: Profile) -> None:
        self.profile = profile

    async def stop(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def reset(self) -> bool:
        return True

    async def park(self, _calls: object) -> None:
        await self.may_park.wait()

    def mark_broken(self) -> None:
        self.broken = True

    async def close(self, *, hard: bool = False) -> None:
        self.alive, self.closed = False, True


async def spawn() -> StandIn:
    return StandIn()


def pool_of(limits: PoolLimits, queue_size: int = 8) -> Pool:
    pool = Pool(
        spawn,  # type: ignore[arg-type]  # it stands in for a Session
        limits,
        queue_size=queue_size,
        clock=time.monotonic,
        recycling=Recycling(memory_bytes=2**60),
    )
    pool.start()
    return pool


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = pool_of(PoolLimits(1, 3, 1))
    yield pool
    await pool.aclose()


async def test_two_callers_who_leave_as_a_lease_is_released_cost_no_turn(pool: Pool) -> None:
    lease = await pool.acquire(Need(A))
    leaving = [asyncio.ensure_future(pool.acquire(Need(A))) for _ in range(2)]
    await pool.wait_for(lambda _: pool.waiting == 2)
    for task in leaving:
        task.cancel()
    pool.release(lease)
    await asyncio.gather(*leaving, return_exceptions=True)
    await pool.wait_for(lambda counts: counts["running"] == counts["resetting"] == 0)
    pool.release(await pool.acquire(Need(A)))


async def test_a_queue_of_size_0_refuses_only_requests_that_would_wait() -> None:
    pool = pool_of(PoolLimits(1, 3, 1), queue_size=0)
    await pool.wait_for(lambda counts: counts["blank"] > 0)
    lease = await pool.acquire(Need(A))
    with pytest.raises(QueueFullError):
        await pool.acquire(Need(A))
    pool.release(lease)
    await pool.wait_for(lambda counts: counts["running"] == counts["resetting"] == 0)
    pool.release(await pool.acquire(Need(B)))
    await pool.aclose()


async def test_one_key_does_not_fill_the_queue_of_another() -> None:
    pool = pool_of(PoolLimits(1, 2, 0), queue_size=1)
    lease = await pool.acquire(Need(A, "x"))
    waiting = [asyncio.ensure_future(pool.acquire(Need(A, caller))) for caller in ("x", "y")]
    await pool.wait_for(lambda _: pool.waiting == 2)
    with pytest.raises(QueueFullError):
        await pool.acquire(Need(A, "x"))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    pool.release(lease)
    await pool.aclose()


async def test_a_fault_while_resetting_costs_the_process_and_not_the_turn(pool: Pool) -> None:
    lease = await pool.acquire(Need(A))
    session: StandIn = lease.session  # type: ignore[assignment]
    session.fault = AttributeError("unforeseen")
    pool.release(lease)
    await pool.wait_for(lambda counts: counts["resetting"] == counts["closing"] == 0)
    assert session.closed
    pool.release(await pool.acquire(Need(A)))


async def test_a_process_that_ends_while_unused_is_replaced_at_once(pool: Pool) -> None:
    await pool.wait_for(lambda counts: counts["blank"] == 2)
    started = pool.totals.started
    for process in list(pool._processes.values()):
        session: StandIn = process.session  # type: ignore[assignment]
        session.alive = False
        session.on_gone()
    await pool.wait_for(lambda counts: counts["blank"] == 2 and not counts["closing"])
    assert pool.totals.started == started + 2


async def test_draining_waits_for_admitted_requests(pool: Pool) -> None:
    lease = await pool.acquire(Need(A))
    queued = asyncio.ensure_future(pool.acquire(Need(A)))
    await pool.wait_for(lambda _: pool.waiting == 1)
    draining = asyncio.ensure_future(pool.drain())
    await pool.changed()
    with pytest.raises(DrainingError):
        await pool.acquire(Need(A))
    pool.release(lease)
    second = await queued
    assert not draining.done()
    pool.release(second)
    await draining


def stand_in(lease: Lease) -> StandIn:
    session: StandIn = lease.session  # type: ignore[assignment]
    return session


async def lease_of(pool: Pool, caller: str, continues: str | None = None) -> Lease:
    """Return a lease whose session was initialised, as by the engine."""
    lease = await pool.acquire(Need(A, caller, continues))
    await lease.session.initialise(A)
    return lease


def parked(pool: Pool) -> dict[str, int]:
    """Return how many conversations are held open, by caller."""
    counts: dict[str, int] = {}
    for process in pool._processes.values():
        if process.state == "parked":
            counts[process.caller] = counts.get(process.caller, 0) + 1
    return counts


def settled(counts: dict[str, int]) -> bool:
    return counts["running"] == counts["resetting"] == 0


async def test_a_forgotten_caller_has_no_conversation_held_open_and_the_others_keep_theirs() -> (
    None
):
    pool = pool_of(PoolLimits(3, 5, 0))
    leases = [(caller, await lease_of(pool, caller)) for caller in ("x", "y")]
    for caller, lease in leases:
        pool.release(lease, Parking(f"of {caller}"))
    await pool.wait_for(settled)
    assert parked(pool) == {"x": 1, "y": 1}
    pool.forget("x")
    await pool.wait_for(settled)
    assert parked(pool) == {"y": 1}
    again = await lease_of(pool, "x", "of x")
    assert again.source is SessionSource.WARM
    # Later conversations are unaffected: a new key may have the name.
    pool.release(again, Parking("of x"))
    await pool.wait_for(settled)
    assert parked(pool) == {"x": 1, "y": 1}
    await pool.aclose()


async def test_what_is_just_being_parked_or_runs_or_waits_is_forgotten_too() -> None:
    pool = pool_of(PoolLimits(2, 2, 0))
    parking, running = [await lease_of(pool, "x") for _ in range(2)]
    stand_in(parking).may_park.clear()
    queued = asyncio.ensure_future(lease_of(pool, "x"))
    await pool.wait_for(lambda _: pool.waiting == 1)
    pool.release(parking, Parking("conversation"))
    pool.forget("x")
    stand_in(parking).may_park.set()
    pool.release(running, Parking("conversation"))
    pool.release(await queued, Parking("conversation"))
    await pool.wait_for(settled)
    assert parked(pool) == {}
    await pool.aclose()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"out_of_tool_names": True}, "worn"),
        ({"gone": True, "alive": False}, "died"),
        ({"failed": True, "alive": False}, "failed"),
        ({"fault": TimeoutError()}, "failed"),
    ],
)
async def test_why_a_process_was_replaced_is_counted(state: dict[str, Any], reason: str) -> None:
    pool = pool_of(PoolLimits(1, 1, 0))
    lease = await pool.acquire(Need(A))
    for name, value in state.items():
        setattr(lease.session, name, value)
    pool.release(lease)
    await soon(pool.wait_for(lambda _: bool(pool.totals.replaced)))
    assert pool.totals.replaced == {reason: 1}
    await pool.aclose()


async def test_a_process_that_does_not_follow_a_command_counts_as_failed() -> None:
    pool = pool_of(PoolLimits(1, 1, 0))
    lease = await pool.acquire(Need(A))
    lease.session.mark_broken()
    lease.session.alive = False  # type: ignore[misc]  # it stands in for a Session
    pool.release(lease)
    await soon(pool.wait_for(lambda _: bool(pool.totals.replaced)))
    assert pool.totals.replaced == {"failed": 1}
    await pool.aclose()


async def test_a_closed_pool_refuses_every_request_even_admitted_ones() -> None:
    pool = pool_of(PoolLimits(1, 1, 0))
    pool.release(await pool.acquire(Need(A)))
    await pool.aclose()
    with pytest.raises(DrainingError):
        await soon(pool.acquire(Need(A), admitted=True))


async def test_whatever_keeps_processes_from_starting_is_tried_again_later_and_later() -> None:
    starts = 0

    async def failing() -> StandIn:
        nonlocal starts
        starts += 1
        raise ValueError("unforeseen")

    pool = Pool(failing, PoolLimits(1, 1, 0), queue_size=8, clock=time.monotonic)  # type: ignore[arg-type]
    pool.start()
    # The second at once, the third a second later.
    for _ in range(50):
        await asyncio.sleep(0)
    assert starts == 2
    await pool.aclose()


async def test_trouble_is_over_when_what_is_left_is_sound_and_nothing_is_to_be_started() -> None:
    pool = pool_of(PoolLimits(1, 1, 0))
    lease = await pool.acquire(Need(A))
    # Others failed after this one was started, so its answer proves nothing about them.
    for _ in range(3):
        pool._starter._backoff.failed(time.monotonic(), time.monotonic())
    assert pool.trouble
    lease.session.answers = 1
    pool.release(lease)
    await soon(pool.wait_for(lambda _: not pool.trouble))
    await pool.aclose()


async def test_closing_waits_for_a_process_that_was_being_ended_already() -> None:
    pool = pool_of(PoolLimits(1, 1, 0))
    lease = await pool.acquire(Need(A))
    session = stand_in(lease)
    may_end, ended = asyncio.Event(), False

    async def end() -> None:
        nonlocal ended
        await may_end.wait()
        ended = True

    ending: asyncio.Future[None] | None = None

    async def close(*, hard: bool = False) -> None:
        nonlocal ending
        # As in a session: cancelling the caller does not stop it.
        ending = ending or asyncio.ensure_future(end())
        await asyncio.shield(ending)

    session.close = close  # type: ignore[method-assign]
    session.out_of_tool_names, session.alive = True, False
    pool.release(lease)
    await pool.wait_for(lambda counts: counts["closing"] == 1)
    closing = asyncio.ensure_future(pool.aclose())
    await asyncio.wait((closing,), timeout=0.02)
    assert not closing.done()
    may_end.set()
    await soon(closing)
    assert ended
