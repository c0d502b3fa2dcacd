"""The pool of CLI processes: it carries out what `pool_policy` decides.

Every change of a process or of the queue calls `_step`, which asks the policy and starts what
it says. All work on processes runs in tasks of the pool's own, off every request's path.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.core.claude import ControlError, ProcessGoneError, Session, TurnSettings
from bridge.core.contract import DrainingError, ProcessFailedError, QueueFullError
from bridge.core.pool.backoff import PROOF_SECONDS, StartBackoff
from bridge.core.pool.leases import Lease, Need, Parking, PooledProcess
from bridge.core.pool.policy import PoolLimits, RequestView, State, decide, fair_order
from bridge.core.pool.queue import RequestQueue
from bridge.core.pool.recycling import Recycling
from bridge.core.pool.turn_times import TurnTimes, wait_estimate
from bridge.core.telemetry import kind_of, trace_of

__all__ = ["Lease", "Need", "Parking", "Pool", "Recycling"]

logger = logging.getLogger(__name__)


class Pool:
    """Owns the processes, from `start` to `aclose`."""

    def __init__(
        self,
        spawn: Callable[[TurnSettings | None], Coroutine[Any, Any, Session]],
        limits: PoolLimits,
        *,
        queue_size: int,
        clock: Callable[[], float],
        recycling: Recycling = Recycling(),  # noqa: B008 - frozen
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._spawn = spawn
        self._limits = limits
        self._queue_size = queue_size
        self._recycling = recycling
        self._clock = clock
        self._on_change = on_change
        self._processes: dict[int, PooledProcess] = {}
        self._queue = RequestQueue()
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._backoff = StartBackoff()
        self._turn_times = TurnTimes()
        self._served: dict[str, int] = {}
        """The last turn of each caller, by its number: callers are the names of keys, so few."""
        self._start_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._started = False
        self.started = 0
        """Processes that came up so far."""
        self.ended = 0
        """Processes that were ended so far."""
        self.replaced: Counter[str] = Counter()
        """Those of them that a new one has to take the place of, by why: died, failed, worn."""
        self._draining = False
        self._closed = False

    def start(self) -> None:
        """Begin to start processes."""
        self._started = True
        self._step()

    def adopt(self, session: Session) -> None:
        """Take in a session that was started and initialised elsewhere."""
        now = self._clock()
        process = PooledProcess(next(self._ids), State.IDLE, now, session=session)
        process.started_at = process.up_at = now
        session.on_gone = self._step
        self._processes[process.id] = process
        self.started += 1

    # What requests use

    async def acquire(self, need: Need, *, admitted: bool = False) -> Lease:
        """Wait for the session whose conversation this continues, for one that has the profile,
        or for a blank.

        A request that was `admitted` before is refused neither while draining nor for the length
        of the queue, but as all others once the pool is closed. Raises QueueFullError,
        DrainingError, and ProcessFailedError where no process can be started.
        """
        if self._closed or (self._draining and not admitted):
            raise DrainingError("The server is shutting down.", retry_after=5)
        view = RequestView(
            next(self._ids), need.profile, need.caller, need.profile.started_with, need.continues
        )
        waiting = self._queue.join(view)
        self._step()
        must_wait = not waiting.granted.done()
        if must_wait and not admitted and self._queue.count(need.caller) > self._queue_size:
            self._queue.leave(waiting)
            raise QueueFullError(
                f"{self._queue_size} requests are waiting already (BRIDGE_QUEUE_SIZE).",
                retry_after=self.wait_estimate(need),
            )
        try:
            process = await waiting.granted
        except asyncio.CancelledError:
            self._queue.leave(waiting)
            if (left := waiting.taken_back()) is not None:
                # Nothing was said in it, so it may stay parked.
                self._hand_back(left, left.parking)
            self._step()
            raise
        return Lease.of(process, spawn_awaited=waiting.spawn_awaited)

    def wait_estimate(self, need: Need) -> float:
        """Seconds that a request which came now would wait for its turn, by what turns take."""
        now = self._clock()
        running = [p for p in self._processes.values() if p.state is State.RUNNING]
        newcomer = RequestView(0, need.profile, need.caller)
        order = fair_order(
            [*(waiting.view for waiting in self._queue.present()), newcomer],
            Counter(process.caller for process in running),
            self._served,
        )
        turn = self._turn_times.seconds_a_turn(now - process.leased_at for process in running)
        return wait_estimate(order.index(newcomer), self._limits.pool_size, turn)

    def release(self, lease: Lease, parking: Parking | None = None) -> None:
        """Give a lease back; with `parking`, its conversation is held open if it ended well.

        Returns at once: a task of the pool's does the rest.
        """
        self._turn_times.note(self._clock() - lease.process.leased_at)
        self._hand_back(lease.process, parking)

    def forget(self, caller: str) -> None:
        """Hold no conversation of a caller open any longer, nor any that runs or waits now.

        Their answers go on to their end.
        """
        self._queue.forget(caller)
        for process in self._processes.values():
            if process.caller != caller:
                continue
            process.forgotten = True
            if process.state is State.PARKED:
                self._hand_back(process, None, step=False)
            elif process.state is State.RESETTING:
                process.parking = None
        self._step()

    # What the operator sees

    def counts(self) -> dict[str, int]:
        """Processes by state."""
        counts = dict.fromkeys((str(state) for state in State), 0)
        for process in self._processes.values():
            counts[process.state] += 1
        return counts

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def trouble(self) -> str:
        """What is wrong with the processes, in a sentence; empty where nothing is."""
        failures = self._backoff.failures
        if not self._backoff.looping and (failures <= 1 or self.usable):
            return ""
        return (
            f"Claude Code has failed {failures} times in a row before it was of any use; "
            f"it is started again within {max(self._backoff.delay, 1):g} seconds."
        )

    @property
    def usable(self) -> bool:
        """Whether there is a process that can be expected to work."""
        now = self._clock()
        alive = [process for process in self._processes.values() if process.alive]
        if self._backoff.looping:
            return any(process.sound(now) for process in alive)
        return bool(alive)

    @property
    def closed(self) -> bool:
        """Whether every process was ended, or is being ended."""
        return self._closed

    def sessions(self) -> list[Session]:
        """Those that are used, or ready to be: none that is being changed from one to the other."""
        settled = (State.BLANK, State.IDLE, State.RUNNING, State.PARKED)
        return [
            process.session
            for process in self._processes.values()
            if process.session is not None and process.state in settled
        ]

    async def wait_for(self, condition: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the counts of processes by state meet the condition."""
        while not condition(self.counts()):
            await self.changed()

    async def changed(self) -> None:
        """Wait for the next change of a process or of the queue."""
        self._changed.clear()
        await self._changed.wait()

    # The end

    async def drain(self) -> None:
        """Take no more requests and wait until none is served any more."""
        self._draining = True
        self.announce()
        await self.wait_for(lambda counts: not counts[State.RUNNING] and not self._queue)

    async def aclose(self) -> None:
        """End every process, whatever it does, and wait for that."""
        self._draining = self._closed = True
        for timer in (self._start_timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        self._queue.refuse_all(lambda: DrainingError("The server is shutting down."))
        # Those too that are being ended: their tasks are cancelled, and take them off the list.
        processes = list(self._processes.values())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        sessions = [p.session for p in processes if p.session is not None]
        await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True)
        self._processes.clear()
        self.announce()

    # The machinery

    def _step(self) -> None:
        if self._closed or not self._started:
            return
        self._discard_dead()
        proof_at = self._prove_by_age()
        decision = decide(
            [process.view() for process in self._processes.values()],
            [waiting.view for waiting in self._queue.present()],
            self._limits,
            self._clock(),
            self._served,
        )
        for request_id, process_id in decision.assign:
            process = self._processes[process_id]
            process.state = State.RUNNING
            waiting = self._queue.grant(request_id, process)
            process.leased_at = self._clock()
            process.caller = waiting.view.caller
            process.forgotten = waiting.forgotten
            self._served[process.caller] = next(self._ids)
        for process_id in decision.reset:
            self._hand_back(self._processes[process_id], None, step=False)
        for process_id in decision.close:
            self._close(self._processes[process_id])
        for blank_id, model_id in decision.prepare:
            self._prepare(self._processes[blank_id], self._processes[model_id])
        looks = [at for at in (decision.look_again_at, proof_at) if at is not None]
        self._look_again(min(looks, default=None))
        if not decision.start and self._all_sound():
            # Whatever failed, nothing is started in its place, whose end would tell more.
            self._backoff.over()
        if self._start_timer is None:
            for started_with in decision.start:
                self._start(started_with)
        for waiting in itertools.islice(self._queue.present(), self._free_turns()):
            # It has a turn but no process: from now on it waits for a start.
            waiting.spawn_awaited = True
        self.announce()

    def _look_again(self, at: float | None) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        if at is not None:
            self._look_timer = asyncio.get_running_loop().call_later(
                max(at - self._clock(), 0.0), self._step
            )

    def _prove_by_age(self) -> float | None:
        """After failures, take note of a process that has lived; gives when to look again."""
        if not self._backoff.failures:
            return None
        now = self._clock()
        young: list[float] = []
        for process in self._processes.values():
            if process.alive and process.sound(now):
                self._backoff.proven(process.started_at)
            elif process.alive:
                young.append(process.up_at + PROOF_SECONDS)
        return min(young, default=None)

    def _all_sound(self) -> bool:
        now = self._clock()
        processes = self._processes.values()
        return bool(processes) and all(p.alive and p.sound(now) for p in processes)

    def _free_turns(self) -> int:
        running = sum(p.state is State.RUNNING for p in self._processes.values())
        return max(self._limits.pool_size - running, 0)

    def announce(self) -> None:
        """Tell those who watch that something has changed."""
        self._changed.set()
        self._on_change()

    def _discard_dead(self) -> None:
        for process in list(self._processes.values()):
            if process.state in (State.IDLE, State.BLANK, State.PARKED):
                assert process.session is not None
                if not process.session.alive:
                    logger.warning(
                        "process %s ended while unused%s", process.session.pid, process.last_words
                    )
                    self._close(process, "died")

    def _start(self, started_with: Any) -> None:
        now = self._clock()
        process = PooledProcess(next(self._ids), State.STARTING, now, started_with, started_at=now)
        self._processes[process.id] = process
        self._run(self._start_task, process)

    async def _start_task(self, process: PooledProcess) -> None:
        try:
            process.session = await self._spawn(process.started_with)
        except (OSError, ControlError, ProcessGoneError) as error:
            logger.error("a Claude Code process could not be started: %s", kind_of(error))
            del self._processes[process.id]
            self._failed(process)
            self._step()
            return
        except BaseException:
            self._processes.pop(process.id, None)
            raise
        self.started += 1
        process.session.on_gone = self._step
        process.state = State.BLANK
        process.used_at = process.up_at = self._clock()
        self._step()

    def _failed(self, process: PooledProcess) -> None:
        """Put off the next start where one process after the other fails."""
        delay = self._backoff.failed(process.started_at, self._clock())
        if not delay or self._closed:
            return
        if self._start_timer is not None:
            self._start_timer.cancel()
        self._start_timer = asyncio.get_running_loop().call_later(delay, self._start_again)
        if self._backoff.looping and not any(p.alive for p in self._processes.values()):
            self._queue.refuse_all(
                lambda: ProcessFailedError(
                    "Claude Code could not be started.", retry_after=max(delay, 1.0)
                )
            )

    def _start_again(self) -> None:
        self._start_timer = None
        self._step()

    def _hand_back(
        self, process: PooledProcess, parking: Parking | None, *, step: bool = True
    ) -> None:
        process.used_at = self._clock()
        process.state = State.RESETTING
        may_park = self._limits.park_seconds > 0 and not process.forgotten
        process.parking = parking if may_park else None
        self._run(self._settle, process)
        if step:
            self._step()

    async def _settle(self, process: PooledProcess) -> None:
        """Make a process fit for the next request, or end it."""
        parked = process.parking is not None and await self._parked(process)
        # It may have been forgotten meanwhile.
        if parked and process.parking is not None:
            process.state = State.PARKED
        else:
            process.parking = None
            if await self._wiped(process):
                blank = process.view().profile is None
                process.state = State.BLANK if blank else State.IDLE
            else:
                self._close(process, self._why_unfit(process))
        if process.state is not State.CLOSING and process.session and process.session.answers:
            process.proven = True
            self._backoff.proven(process.started_at)
        self._step()

    async def _parked(self, process: PooledProcess) -> bool:
        assert process.session is not None
        assert process.parking is not None
        if not process.parking.calls and self._recycling.due(process.session):
            # However long it goes on: its next message is answered by another process.
            return False
        try:
            await process.session.park(process.parking.calls)
        except (ControlError, ProcessGoneError, TimeoutError) as error:
            logger.info("process %s could not be parked: %s", process.session.pid, kind_of(error))
            return False
        return process.session.alive

    async def _wiped(self, process: PooledProcess) -> bool:
        session = process.session
        assert session is not None
        if not session.alive or self._recycling.due(session):
            return False
        try:
            await session.stop()
            return await session.reset()
        except (ControlError, ProcessGoneError, TimeoutError) as error:
            logger.warning("process %s could not be reset: %s", session.pid, kind_of(error))
            session.broken = True
            return False

    def _prepare(self, blank: PooledProcess, like: PooledProcess) -> None:
        assert like.session is not None
        blank.state = State.PREPARING
        blank.preparing = like.session.profile
        self._run(self._initialise, blank)

    async def _initialise(self, process: PooledProcess) -> None:
        assert process.session is not None
        assert process.preparing is not None
        try:
            await process.session.initialise(process.preparing)
        except (ControlError, ProcessGoneError) as error:
            pid, kind = process.session.pid, kind_of(error)
            logger.warning("process %s could not be initialised: %s", pid, kind)
            self._close(process, "failed")
        else:
            process.state = State.IDLE
            process.used_at = self._clock()
        process.preparing = None
        self._step()

    def _why_unfit(self, process: PooledProcess) -> str:
        session = process.session
        assert session is not None
        if session.gone:
            return "died"
        return "failed" if session.broken or session.failed else "worn"

    def _close(self, process: PooledProcess, replaced: str = "") -> None:
        if replaced:
            self.replaced[replaced] += 1
        process.state = State.CLOSING
        process.parking = None
        ended_badly = process.session is not None and process.session.failed
        if ended_badly and not process.sound(self._clock()):
            self._failed(process)
        self._run(self._close_task, process)

    async def _close_task(self, process: PooledProcess) -> None:
        assert process.session is not None
        try:
            # A request that waits may be waiting for its place.
            await process.session.close(hard=bool(self._queue))
        finally:
            self._processes.pop(process.id, None)
            self.ended += 1
        self._step()

    def _run(
        self, work: Callable[[PooledProcess], Coroutine[Any, Any, None]], on: PooledProcess
    ) -> None:
        if not self._closed:
            task = asyncio.create_task(self._guarded(work, on))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _abandon(self, process: PooledProcess) -> None:
        """End a process of which nobody knows how it stands."""
        if process.session is None:
            self._processes.pop(process.id, None)
            self._failed(process)
        elif process.state is not State.CLOSING:
            self._close(process, "failed")
        self._step()

    async def _guarded(
        self, work: Callable[[PooledProcess], Coroutine[Any, Any, None]], on: PooledProcess
    ) -> None:
        try:
            await work(on)
        except Exception as error:  # noqa: BLE001 - it is logged, and the process ended
            logger.error("a task of the pool failed\n%s", trace_of(error))
            self._abandon(on)
