"""The pool of CLI processes: executes the decisions of the policy.

Every change of a process or of the queue calls `step`, which asks the policy and starts what it
decides. All work on processes runs in the pool's own tasks, off every request's path.
"""

# long: every change of a process or of the queue, each of which leads to `step`.
from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.core.claude import Session
from bridge.core.contract import DrainingError, ProcessFailedError, ReplacementReason
from bridge.core.pool.budget import Budget, Claim
from bridge.core.pool.leases import Bill, Lease, Need, Parking, PooledProcess, free
from bridge.core.pool.policy import Decision, PoolLimits, RequestView, State, decide, dispensable
from bridge.core.pool.processes import Phase, Processes, ProcessTotals
from bridge.core.pool.queue import RequestQueue
from bridge.core.pool.recycling import Recycling
from bridge.core.pool.starts import Starter
from bridge.core.pool.tasks import ProcessTasks
from bridge.core.pool.turn_times import TurnTimes, wait_estimate
from bridge.core.pool.upkeep import initialise, settle

logger = logging.getLogger(__name__)


class Pool:
    """Owns the processes, from `start` to `aclose`."""

    def __init__(
        self,
        spawn: Callable[[], Coroutine[Any, Any, Session]],
        limits: PoolLimits,
        *,
        queue_size: int,
        clock: Callable[[], float],
        recycling: Recycling = Recycling(),  # noqa: B008 - frozen
        on_change: Callable[[], None] = lambda: None,
        budget: Budget | None = None,
    ) -> None:
        """`budget` is that of several pools with these limits together; None is an own one."""
        self._limits = limits
        self._budget = budget
        self._recycling = recycling
        self._clock = clock
        self._on_change = on_change
        self._processes = Processes()
        self._queue = RequestQueue(queue_size)
        self._ids = itertools.count(1) if budget is None else budget.ids
        if budget is not None:
            budget.join(self)
        self._tasks = ProcessTasks(self._abandon)
        self._starter = Starter(spawn, clock, self.step)
        self._turn_times = TurnTimes()
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._phase = Phase.NEW
        self.totals = ProcessTotals()

    def start(self) -> None:
        """Start launching processes."""
        if self._phase is Phase.NEW:
            self._phase = Phase.OPEN
        self.step()

    def adopt(self, session: Session) -> None:
        """Add a session that was started and initialised elsewhere."""
        now = self._clock()
        process = PooledProcess(next(self._ids), State.IDLE, now, session=session)
        process.started_at = process.up_at = now
        session.on_gone = self.step
        self._processes[process.id] = process
        self.totals.started += 1

    # For requests

    async def acquire(
        self, need: Need, *, admitted: bool = False, queued: Callable[[], None] = lambda: None
    ) -> Lease:
        """Wait for a session: one that holds this conversation, one with the profile, or a blank.

        A request that was `admitted` before is refused neither while draining nor for the length of
        the queue, but like all others once the pool is closed. Raises QueueFullError,
        DrainingError, and ProcessFailedError if no process can be started. `queued` is called once
        the request waits, unless it is refused at once.
        """
        if self.closed or (self._phase is Phase.DRAINING and not admitted):
            raise DrainingError("The server is shutting down.", retry_after=5)
        view = RequestView(next(self._ids), need.profile, need.caller, need.continues)
        waiting = self._queue.join(view)
        self.step()
        if not admitted:
            self._queue.check_size(waiting, lambda: self.wait_estimate(need))
        queued()
        try:
            process = await waiting.granted
        except asyncio.CancelledError:
            self._queue.leave(waiting)
            if (left := waiting.taken_back()) is not None:
                # Nothing was sent to it, so it may stay parked.
                self._hand_back(left, left.parking)
            self.step()
            raise
        return Lease.of(process, spawn_awaited=waiting.spawn_awaited)

    def wait_estimate(self, need: Need) -> float:
        """Estimate the seconds that a new request would wait, based on the duration of turns."""
        now = self._clock()
        running = self._processes.running()
        ahead = self._queue.ahead(need, (process.caller for process in running))
        turn = self._turn_times.seconds_a_turn(now - process.leased_at for process in running)
        return wait_estimate(ahead, self._limits.pool_size, turn)

    def release(self, lease: Lease, parking: Parking | None = None, bill: Bill = free) -> None:
        """Return a lease at once: one of the pool's tasks does the rest.

        With `parking`, its conversation is held open if it ended well; `bill` is called with the
        cost of its turn, once that is over, but not if the pool closes before.
        """
        self._turn_times.note(self._clock() - lease.process.leased_at)
        lease.process.bill = bill
        self._hand_back(lease.process, parking)

    def forget(self, caller: str) -> None:
        """Stop holding conversations of a caller open, including those that run or wait now.

        Running answers continue to their end.
        """
        self._queue.forget(caller)
        for process in self._processes.forget(caller):
            self._hand_back(process, None, step=False)
        self.step()

    # For the operator

    def counts(self) -> dict[str, int]:
        """Processes by state."""
        return self._processes.counts()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def trouble(self) -> str:
        """Return a problem of the processes, in a sentence; empty if there is none."""
        return self._starter.trouble(self._processes.values())

    @property
    def usable(self) -> bool:
        """Whether a process is expected to work."""
        return self._starter.usable(self._processes.values())

    @property
    def closed(self) -> bool:
        """Whether every process was ended or is being ended."""
        return self._phase is Phase.CLOSED

    def sessions(self) -> list[Session]:
        """See `Processes.sessions`."""
        return self._processes.sessions()

    async def wait_for(self, reached: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the counts of processes by state satisfy `reached`."""
        while not reached(self.counts()):
            await self.changed()

    async def changed(self) -> None:
        """Wait for the next change of a process or of the queue."""
        self._changed.clear()
        await self._changed.wait()

    # For the other pools of its budget

    def claim(self) -> Claim:
        """Return what it has and needs of the budget."""
        counts, waiting = self.counts(), self._queue.present()
        return Claim(
            processes=len(self._processes),
            running=counts[State.RUNNING],
            closing=counts[State.CLOSING],
            # Nothing is held back for requests that no process can serve.
            waiting=tuple(each.view.id for each in waiting) if self.usable else (),
            short=self._queue.short,
        )

    def give_up(self) -> bool:
        """End an unused process for another pool; returns whether there was one."""
        found = None if self.closed else dispensable(self._processes.views())
        if found is not None:
            self._close(self._processes[found])
        return found is not None

    # Shutdown

    async def drain(self) -> None:
        """Refuse new requests and wait until no request is being served."""
        if self._phase is not Phase.CLOSED:
            self._phase = Phase.DRAINING
        self.announce()
        await self.wait_for(lambda counts: not counts[State.RUNNING] and not self._queue)

    async def aclose(self) -> None:
        """End every process, whatever it is doing, and wait for that."""
        self._phase = Phase.CLOSED
        self._starter.close()
        self._look_again(None)
        self._queue.refuse_all(lambda: DrainingError("The server is shutting down."))
        # Including those being ended: their tasks are cancelled, and remove them from the list.
        processes = list(self._processes.values())
        await self._tasks.aclose()
        sessions = [p.session for p in processes if p.session is not None]
        await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True)
        self._processes.clear()
        self.announce()

    # Internals

    def step(self) -> None:
        """Act on what has changed."""
        if self._phase in (Phase.NEW, Phase.CLOSED):
            return
        for process in self._processes.dead():
            assert process.session is not None
            pid, words = process.session.pid, process.last_words
            logger.warning("process %s ended while unused%s", pid, words)
            self._close(process, ReplacementReason.DIED)
        proof_at = self._starter.check_age(self._processes.values())
        limits = self._limits if self._budget is None else self._budget.limits_of(self)
        decision = decide(
            self._processes.views(),
            [waiting.view for waiting in self._queue.present()],
            limits,
            self._clock(),
            self._queue.served,
        )
        self._change(decision)
        looks = [at for at in (decision.look_again_at, proof_at) if at is not None]
        self._look_again(min(looks, default=None))
        if not decision.start and self._processes.all_sound(self._clock()):
            # After any failure, no replacement is started, whose end would reveal more.
            self._starter.settled()
        if self._starter.ready:
            for _ in range(decision.start):
                self._start()
        free_turns = max(limits.pool_size - len(self._processes.running()), 0)
        for waiting in self._queue.present()[:free_turns]:
            # It has a turn but no process: it now waits for a start.
            waiting.spawn_awaited = True
        self._queue.short = decision.short
        self.announce()
        if self._budget is not None:
            self._budget.stepped()

    def _change(self, decision: Decision) -> None:
        """Change the existing processes as decided."""
        for request_id, process_id in decision.assign:
            process = self._processes[process_id]
            waiting = self._queue.grant(request_id, process)
            process.lend(waiting.view.caller, self._clock(), forgotten=waiting.forgotten)
            self._queue.served[process.caller] = next(self._ids)
        for process_id in decision.reset:
            self._hand_back(self._processes[process_id], None, step=False)
        for process_id in decision.close:
            self._close(self._processes[process_id])
        for blank_id, model_id in decision.prepare:
            blank = self._processes[blank_id]
            blank.prepare_like(self._processes[model_id])
            self._tasks.run(self._initialise, blank)

    def _look_again(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            delay = max(at - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self.step)

    def announce(self) -> None:
        """Inform watchers of a change."""
        self._changed.set()
        self._on_change()

    # Work on a process

    def _start(self) -> None:
        now = self._clock()
        process = PooledProcess(next(self._ids), State.STARTING, now, started_at=now)
        self._processes[process.id] = process
        self._tasks.run(self._start_task, process)

    async def _start_task(self, process: PooledProcess) -> None:
        try:
            started = await self._starter.start(process)
        except BaseException:
            self._processes.pop(process.id, None)
            raise
        if started:
            assert process.session is not None
            process.session.on_gone = self.step
            self.totals.started += 1
        else:
            del self._processes[process.id]
            self._failed(process)
        self.step()

    def _failed(self, process: PooledProcess) -> None:
        """Delay the next start if processes keep failing."""
        if self.closed:
            return
        delay = self._starter.failed(process)
        if delay and self._starter.looping and not self._processes.any_alive():
            self._queue.refuse_all(
                lambda: ProcessFailedError(
                    f"Claude Code could not be started. {self._starter.cause}".rstrip(),
                    retry_after=max(delay, 1.0),
                )
            )

    def _hand_back(
        self, process: PooledProcess, parking: Parking | None, *, step: bool = True
    ) -> None:
        process.used_at = self._clock()
        process.state = State.RESETTING
        may_park = self._limits.park_seconds > 0 and not process.forgotten
        process.parking = parking if may_park else None
        self._tasks.run(self._settle, process)
        if step:
            self.step()

    async def _settle(self, process: PooledProcess) -> None:
        """Prepare a process for the next request, or end it."""
        unfit = await settle(process, self._recycling)
        if unfit is not None:
            self._close(process, unfit)
        elif process.session and process.session.answers:
            self._starter.proven(process)
        self.step()

    async def _initialise(self, process: PooledProcess) -> None:
        unfit = await initialise(process)
        if unfit is not None:
            self._close(process, unfit)
        else:
            process.state = State.IDLE
            process.used_at = self._clock()
        process.preparing = None
        self.step()

    def _close(self, process: PooledProcess, replaced: ReplacementReason | None = None) -> None:
        if replaced is not None:
            self.totals.replaced[replaced] += 1
        process.state = State.CLOSING
        process.parking = None
        ended_badly = process.session is not None and process.session.failed
        if ended_badly and not process.sound(self._clock()):
            self._failed(process)
        self._tasks.run(self._close_task, process)

    async def _close_task(self, process: PooledProcess) -> None:
        assert process.session is not None
        try:
            # A waiting request may need its place.
            await process.session.close(hard=bool(self._queue))
        finally:
            self._processes.pop(process.id, None)
            self.totals.ended += 1
        self.step()

    def _abandon(self, process: PooledProcess) -> None:
        """End a process whose state is unknown."""
        if process.session is None:
            self._processes.pop(process.id, None)
            self._failed(process)
        elif process.state is not State.CLOSING:
            self._close(process, ReplacementReason.FAILED)
        self.step()
