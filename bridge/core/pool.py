"""The pool of CLI processes: it carries out what `pool_policy` decides.

Every change of a process or of the queue calls `_step`, which asks the policy and starts what
it says. All work on processes runs in tasks of the pool's own, off every request's path.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any

from bridge.core.control import ControlError
from bridge.core.errors import DrainingError, ProcessFailedError, QueueFullError
from bridge.core.pool_policy import Limits, ProcessView, RequestView, State, decide
from bridge.core.process import ProcessGoneError
from bridge.core.session import Session

logger = logging.getLogger(__name__)

MAX_START_DELAY = 30.0
"""Seconds between attempts to start a process, at the most, after several have failed."""


@dataclass(slots=True, eq=False)
class _Process:
    id: int
    state: State
    used_at: float
    session: Session | None = None

    def view(self) -> ProcessView:
        profile = self.session.profile if self.session is not None else None
        return ProcessView(self.id, self.state, profile, self.used_at)


@dataclass(slots=True, eq=False)
class _Waiting:
    view: RequestView
    granted: asyncio.Future[_Process]
    spawn_awaited: bool = False


@dataclass(slots=True, eq=False)
class Lease:
    """The exclusive use of a session for one completion. Give it back with `Pool.release`."""

    session: Session
    got: str
    """How the session was got: `warm`, `initialised`, or `spawned` if it waited for a start."""
    _process: _Process = field(repr=False)


class Pool:
    """Owns the processes, from `start` to `aclose`."""

    def __init__(
        self,
        spawn: Callable[[], Coroutine[Any, Any, Session]],
        limits: Limits,
        *,
        queue_size: int,
        clock: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._spawn = spawn
        self._limits = limits
        self._queue_size = queue_size
        self._clock = clock
        self._on_change = on_change
        self._processes: dict[int, _Process] = {}
        self._queue: dict[int, _Waiting] = {}
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_starts = 0
        self._start_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._started = False
        self._draining = False
        self._closed = False

    def start(self) -> None:
        """Begin to start processes."""
        self._started = True
        self._step()

    def adopt(self, session: Session) -> None:
        """Take in a session that was started and initialised elsewhere."""
        process = _Process(next(self._ids), State.IDLE, self._clock(), session)
        self._processes[process.id] = process

    # What requests use

    async def acquire(self, profile: Hashable, caller: str = "") -> Lease:
        """Wait for a session that has this profile, or for a blank.

        Raises QueueFullError, DrainingError, and ProcessFailedError where no process can be
        started.
        """
        if self._draining:
            raise DrainingError("The server is shutting down.", retry_after=5)
        if len(self._queue) >= self._queue_size:
            raise QueueFullError(
                f"{len(self._queue)} requests are waiting already (BRIDGE_QUEUE_SIZE).",
                retry_after=1,
            )
        waiting = _Waiting(
            RequestView(next(self._ids), profile, caller),
            asyncio.get_running_loop().create_future(),
        )
        self._queue[waiting.view.id] = waiting
        self._step()
        try:
            process = await waiting.granted
        except asyncio.CancelledError:
            self._queue.pop(waiting.view.id, None)
            if waiting.granted.done() and not waiting.granted.cancelled():
                self._settle(waiting.granted.result())
            self._step()
            raise
        assert process.session is not None
        warm = process.session.profile is not None
        got = "warm" if warm else "spawned" if waiting.spawn_awaited else "initialised"
        return Lease(process.session, got, process)

    def release(self, lease: Lease) -> None:
        """Give a lease back. Returns at once: a task of the pool's resets the session."""
        self._settle(lease._process)

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
    def failing(self) -> bool:
        """Whether processes cannot be started now."""
        return self._failed_starts > 0

    async def wait_for(self, condition: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the counts of processes by state meet the condition."""
        while not condition(self.counts()):
            self._changed.clear()
            await self._changed.wait()

    # The end

    async def drain(self) -> None:
        """Take no more requests and wait until none is served any more."""
        self._draining = True
        busy = (State.RUNNING,)
        await self.wait_for(lambda counts: not any(counts[state] for state in busy))

    async def aclose(self) -> None:
        """End every process, whatever it does, and wait for that."""
        self._draining = self._closed = True
        if self._start_timer is not None:
            self._start_timer.cancel()
        for waiting in self._queue.values():
            if not waiting.granted.done():
                waiting.granted.set_exception(DrainingError("The server is shutting down."))
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        sessions = [p.session for p in self._processes.values() if p.session is not None]
        await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True)
        self._processes.clear()
        self._announce()

    # The machinery

    def _step(self) -> None:
        if self._closed or not self._started:
            return
        self._discard_dead()
        decision = decide(
            [process.view() for process in self._processes.values()],
            [waiting.view for waiting in self._queue.values()],
            self._limits,
        )
        for request_id, process_id in decision.assign:
            process = self._processes[process_id]
            process.state = State.RUNNING
            self._queue.pop(request_id).granted.set_result(process)
        for process_id in decision.close:
            self._close(self._processes[process_id])
        if self._start_timer is None:
            for _ in range(decision.start):
                self._start()
        for waiting in itertools.islice(self._queue.values(), self._free_turns()):
            # It has a turn but no process: from now on it waits for a start.
            waiting.spawn_awaited = True
        self._announce()

    def _free_turns(self) -> int:
        running = sum(p.state is State.RUNNING for p in self._processes.values())
        return max(self._limits.pool_size - running, 0)

    def _announce(self) -> None:
        self._changed.set()
        self._on_change()

    def _discard_dead(self) -> None:
        for process in list(self._processes.values()):
            if process.state in (State.IDLE, State.BLANK):
                assert process.session is not None
                if not process.session.alive:
                    logger.warning("process %s ended while idle", process.session.pid)
                    self._close(process)

    def _start(self) -> None:
        process = _Process(next(self._ids), State.STARTING, self._clock())
        self._processes[process.id] = process
        self._run(self._start_task, process)

    async def _start_task(self, process: _Process) -> None:
        try:
            process.session = await self._spawn()
        except (OSError, ControlError, ProcessGoneError) as error:
            logger.error("a Claude Code process could not be started: %r", error)
            del self._processes[process.id]
            self._start_failed()
            return
        except BaseException:
            self._processes.pop(process.id, None)
            raise
        self._failed_starts = 0
        process.state = State.BLANK
        process.used_at = self._clock()
        self._step()

    def _start_failed(self) -> None:
        self._failed_starts += 1
        delay = min(2.0 ** (self._failed_starts - 1), MAX_START_DELAY)
        self._start_timer = asyncio.get_running_loop().call_later(delay, self._start_again)
        if not self._processes:
            for waiting in self._queue.values():
                if not waiting.granted.done():
                    waiting.granted.set_exception(
                        ProcessFailedError(
                            "Claude Code could not be started.", retry_after=max(delay, 1.0)
                        )
                    )
            self._queue.clear()
        self._announce()

    def _start_again(self) -> None:
        self._start_timer = None
        self._step()

    def _settle(self, process: _Process) -> None:
        """Make a process fit for the next request, or end it, in a task."""
        process.used_at = self._clock()
        process.state = State.RESETTING
        self._run(self._settle_task, process)
        self._step()

    async def _settle_task(self, process: _Process) -> None:
        session = process.session
        assert session is not None
        try:
            fit = session.alive and await _wiped(session)
        except (ControlError, ProcessGoneError, TimeoutError) as error:
            logger.warning("process %s could not be reset: %r", session.pid, error)
            fit = False
        if fit:
            process.state = State.BLANK if session.profile is None else State.IDLE
        else:
            self._close(process)
        self._step()

    def _close(self, process: _Process) -> None:
        process.state = State.CLOSING
        self._run(self._close_task, process)

    async def _close_task(self, process: _Process) -> None:
        assert process.session is not None
        try:
            await process.session.close()
        finally:
            self._processes.pop(process.id, None)
        self._step()

    def _run(self, work: Callable[[_Process], Coroutine[Any, Any, None]], on: _Process) -> None:
        if not self._closed:
            task = asyncio.create_task(self._guarded(work, on))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _guarded(work: Callable[[_Process], Coroutine[Any, Any, None]], on: _Process) -> None:
        try:
            await work(on)
        except Exception:
            logger.exception("a task of the pool failed")


async def _wiped(session: Session) -> bool:
    await session.stop()
    return await session.reset()
