"""The pool of CLI processes: it carries out what `pool_policy` decides.

Every change of a process or of the queue calls `_step`, which asks the policy and starts what
it says. All work on processes runs in tasks of the pool's own, off every request's path.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.core.control import ControlError
from bridge.core.errors import DrainingError, ProcessFailedError, QueueFullError
from bridge.core.logs import kind_of, trace_of
from bridge.core.pool_policy import Limits, ProcessView, RequestView, State, decide
from bridge.core.process import ProcessGoneError
from bridge.core.session import Session
from bridge.core.to_claude import Profile, TurnSettings

logger = logging.getLogger(__name__)

MAX_START_DELAY = 30.0
"""Seconds between attempts to start a process, at the most, after several have failed."""


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a process has served enough: its memory grows with use."""

    answers: int = 200
    memory_bytes: int = 600 * 1024 * 1024

    def due(self, session: Session) -> bool:
        """Whether the session's process is to be replaced by a new one."""
        if session.worn or session.answers >= self.answers:
            return True
        memory = resident_bytes(session.pid)
        return memory is not None and memory > self.memory_bytes


def resident_bytes(pid: int) -> int | None:
    """The memory a process holds; None where the system does not tell (only Linux does)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _last_words(process: _Process) -> str:
    """What a process wrote to stderr: only of one that was never told anything of a caller's."""
    session = process.session
    if session is None or session.profile is not None or session.answers:
        return ""
    return f": {session.stderr_tail}"


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs of a process."""

    profile: Profile
    caller: str = ""
    continues: str | None = None
    """The fingerprint of the conversation that it would continue."""


@dataclass(frozen=True, slots=True)
class Parking:
    """How a conversation is to be held open after a request."""

    conversation: str
    """Its fingerprint, the answer included."""
    calls: tuple[str, ...] = ()
    """The ids of the calls it waits for; none where the turn is finished."""


@dataclass(slots=True, eq=False)
class _Process:
    id: int
    state: State
    used_at: float
    started_with: TurnSettings | None = None
    session: Session | None = None
    parking: Parking | None = None
    caller: str = ""
    preparing: Profile | None = None

    def view(self) -> ProcessView:
        profile = self.preparing
        if self.session is not None and self.session.profile is not None:
            profile = self.session.profile
        parking = self.parking
        return ProcessView(
            self.id,
            self.state,
            profile,
            self.started_with,
            self.used_at,
            parking.conversation if parking else None,
            bool(parking and parking.calls),
            self.caller,
        )


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
    """How the session was got: `continued`, `warm`, `initialised`, or `spawned` if it waited for
    a start."""
    _process: _Process = field(repr=False)


class Pool:
    """Owns the processes, from `start` to `aclose`."""

    def __init__(
        self,
        spawn: Callable[[TurnSettings | None], Coroutine[Any, Any, Session]],
        limits: Limits,
        *,
        queue_size: int,
        clock: Callable[[], float],
        recycling: Recycling = Recycling(),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._spawn = spawn
        self._limits = limits
        self._queue_size = queue_size
        self._recycling = recycling
        self._clock = clock
        self._on_change = on_change
        self._processes: dict[int, _Process] = {}
        self._queue: dict[int, _Waiting] = {}
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_starts = 0
        self._start_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._started = False
        self.started = 0
        """Processes that came up so far."""
        self.ended = 0
        """Processes that were ended so far."""
        self._draining = False
        self._closed = False

    def start(self) -> None:
        """Begin to start processes."""
        self._started = True
        self._step()

    def adopt(self, session: Session) -> None:
        """Take in a session that was started and initialised elsewhere."""
        process = _Process(next(self._ids), State.IDLE, self._clock(), session=session)
        session.on_gone = self._step
        self._processes[process.id] = process
        self.started += 1

    # What requests use

    async def acquire(self, need: Need, *, admitted: bool = False) -> Lease:
        """Wait for the session whose conversation this continues, for one that has the profile,
        or for a blank.

        A request that was `admitted` before is neither refused while draining nor for the
        length of the queue. Raises QueueFullError, DrainingError, and ProcessFailedError where
        no process can be started.
        """
        if self._draining and not admitted:
            raise DrainingError("The server is shutting down.", retry_after=5)
        waiting = _Waiting(
            RequestView(
                next(self._ids),
                need.profile,
                need.caller,
                need.profile.started_with,
                need.continues,
            ),
            asyncio.get_running_loop().create_future(),
        )
        self._queue[waiting.view.id] = waiting
        self._step()
        others = sum(other.view.caller == need.caller for other in self._waiting())
        if not waiting.granted.done() and not admitted and others > self._queue_size:
            del self._queue[waiting.view.id]
            raise QueueFullError(
                f"{self._queue_size} requests are waiting already (BRIDGE_QUEUE_SIZE).",
                retry_after=1,
            )
        try:
            process = await waiting.granted
        except asyncio.CancelledError:
            self._queue.pop(waiting.view.id, None)
            granted = waiting.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                # Granted in the same moment: nothing was said in it, so it may stay parked.
                process = granted.result()
                self._hand_back(process, process.parking)
            self._step()
            raise
        return self._lease(process, waiting)

    def _lease(self, process: _Process, waiting: _Waiting) -> Lease:
        assert process.session is not None
        if process.parking is not None:
            got = "continued"
        elif process.session.profile is not None:
            got = "warm"
        else:
            got = "spawned" if waiting.spawn_awaited else "initialised"
        process.parking = None
        return Lease(process.session, got, process)

    def release(self, lease: Lease, parking: Parking | None = None) -> None:
        """Give a lease back; with `parking`, its conversation is held open if it ended well.

        Returns at once: a task of the pool's does the rest.
        """
        self._hand_back(lease._process, parking)

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
        self.announce()

    # The machinery

    def _step(self) -> None:
        if self._closed or not self._started:
            return
        self._discard_dead()
        decision = decide(
            [process.view() for process in self._processes.values()],
            [waiting.view for waiting in self._waiting()],
            self._limits,
            self._clock(),
        )
        for request_id, process_id in decision.assign:
            process = self._processes[process_id]
            process.state = State.RUNNING
            waiting = self._queue.pop(request_id)
            process.caller = waiting.view.caller
            waiting.granted.set_result(process)
        for process_id in decision.reset:
            self._hand_back(self._processes[process_id], None, step=False)
        for process_id in decision.close:
            self._close(self._processes[process_id])
        for blank_id, model_id in decision.prepare:
            self._prepare(self._processes[blank_id], self._processes[model_id])
        self._look_again(decision.look_again_at)
        if self._start_timer is None:
            for started_with in decision.start:
                self._start(started_with)
        for waiting in itertools.islice(self._waiting(), self._free_turns()):
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

    def _waiting(self) -> list[_Waiting]:
        """Those in the queue, without any whose caller has gone in this very moment."""
        return [waiting for waiting in self._queue.values() if not waiting.granted.done()]

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
                        "process %s ended while unused%s", process.session.pid, _last_words(process)
                    )
                    self._close(process)

    def _start(self, started_with: Any) -> None:
        process = _Process(next(self._ids), State.STARTING, self._clock(), started_with)
        self._processes[process.id] = process
        self._run(self._start_task, process)

    async def _start_task(self, process: _Process) -> None:
        try:
            process.session = await self._spawn(process.started_with)
        except (OSError, ControlError, ProcessGoneError) as error:
            logger.error("a Claude Code process could not be started: %s", kind_of(error))
            del self._processes[process.id]
            self._start_failed()
            return
        except BaseException:
            self._processes.pop(process.id, None)
            raise
        self._failed_starts = 0
        self.started += 1
        process.session.on_gone = self._step
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
        self.announce()

    def _start_again(self) -> None:
        self._start_timer = None
        self._step()

    def _hand_back(self, process: _Process, parking: Parking | None, *, step: bool = True) -> None:
        process.used_at = self._clock()
        process.state = State.RESETTING
        process.parking = parking if self._limits.park_seconds > 0 else None
        self._run(self._settle, process)
        if step:
            self._step()

    async def _settle(self, process: _Process) -> None:
        """Make a process fit for the next request, or end it."""
        if process.parking is not None and await self._parked(process):
            process.state = State.PARKED
        else:
            process.parking = None
            if await self._wiped(process):
                blank = process.view().profile is None
                process.state = State.BLANK if blank else State.IDLE
            else:
                self._close(process)
        self._step()

    async def _parked(self, process: _Process) -> bool:
        assert process.session is not None
        assert process.parking is not None
        try:
            await process.session.park(process.parking.calls)
        except (ControlError, ProcessGoneError, TimeoutError) as error:
            logger.info("process %s could not be parked: %s", process.session.pid, kind_of(error))
            return False
        return process.session.alive

    async def _wiped(self, process: _Process) -> bool:
        session = process.session
        assert session is not None
        if not session.alive or self._recycling.due(session):
            return False
        try:
            await session.stop()
            return await session.reset()
        except (ControlError, ProcessGoneError, TimeoutError) as error:
            logger.warning("process %s could not be reset: %s", session.pid, kind_of(error))
            return False

    def _prepare(self, blank: _Process, like: _Process) -> None:
        assert like.session is not None
        blank.state = State.PREPARING
        blank.preparing = like.session.profile
        self._run(self._initialise, blank)

    async def _initialise(self, process: _Process) -> None:
        assert process.session is not None
        assert process.preparing is not None
        try:
            await process.session.initialise(process.preparing)
        except (ControlError, ProcessGoneError) as error:
            pid, kind = process.session.pid, kind_of(error)
            logger.warning("process %s could not be initialised: %s", pid, kind)
            self._close(process)
        else:
            process.state = State.IDLE
            process.used_at = self._clock()
        process.preparing = None
        self._step()

    def _close(self, process: _Process) -> None:
        process.state = State.CLOSING
        process.parking = None
        self._run(self._close_task, process)

    async def _close_task(self, process: _Process) -> None:
        assert process.session is not None
        try:
            await process.session.close()
        finally:
            self._processes.pop(process.id, None)
            self.ended += 1
        self._step()

    def _run(self, work: Callable[[_Process], Coroutine[Any, Any, None]], on: _Process) -> None:
        if not self._closed:
            task = asyncio.create_task(self._guarded(work, on))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _abandon(self, process: _Process) -> None:
        """End a process of which nobody knows how it stands."""
        if process.session is None:
            self._processes.pop(process.id, None)
        elif process.state is not State.CLOSING:
            self._close(process)
        self._step()

    async def _guarded(
        self, work: Callable[[_Process], Coroutine[Any, Any, None]], on: _Process
    ) -> None:
        try:
            await work(on)
        except Exception as error:  # noqa: BLE001 - it is logged, and the process ended
            logger.error("a task of the pool failed\n%s", trace_of(error))
            self._abandon(on)
