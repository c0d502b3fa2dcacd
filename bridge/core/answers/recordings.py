"""The detached answers that are kept: how many, how large, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bridge.core.answers.recording import Recording
from bridge.core.contract import (
    AnswerTooLargeError,
    BridgeError,
    Event,
    RateLimitedError,
    UnavailableError,
)

_MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """What is kept of detached answers."""

    seconds: float = 600.0
    """How long one is kept after its end."""
    per_owner: int = 64
    """How many of one key are kept at a time, running ones included."""
    total_bytes: int = 128 * _MEGABYTE
    """The memory of all."""

    @property
    def answer_bytes(self) -> int:
        """The memory of one."""
        return self.total_bytes // 4


class Recordings:
    """Keeps detached answers, running or ended, within limits.

    An ended one is dropped when its time is over, or earlier if its room is needed: the oldest of
    the owner who has most. A running one is never dropped.
    """

    def __init__(self, limits: RecordingLimits, clock: Callable[[], float]) -> None:
        """`clock` is monotonic."""
        self._limits = limits
        self._clock = clock
        self._owners: dict[str, dict[str, Recording]] = {}
        """Those of each owner by request id: running ones in between, ended ones in the order in
        which they ended."""
        self._timers: dict[Recording, asyncio.TimerHandle] = {}
        self._size = 0

    def find(self, owner: str, request_id: str) -> Recording | None:
        """Return an answer, if it is kept."""
        found = self._owners.get(owner, {}).get(request_id)
        if found is not None and self._expired(found):
            self.drop(found)
            return None
        return found

    def add(self, recording: Recording) -> None:
        """Keep a new one; raises RateLimitedError if its owner has as many running ones as may be
        kept.
        """
        limits = self._limits
        mine = self._owners.get(recording.owner, {})
        if len(mine) >= limits.per_owner:
            oldest = _oldest(mine)
            if oldest is None:
                raise RateLimitedError(
                    f"This key has {limits.per_owner} detached answers running, its limit. Wait "
                    "for one to end, or cancel one.",
                    reason="TOO_MANY_DETACHED_ANSWERS",
                )
            self.drop(oldest)
        self._owners.setdefault(recording.owner, {})[recording.request_id] = recording

    def record(self, recording: Recording, event: Event) -> None:
        """Record an event of a running one; raises if there is no room for it."""
        limits = self._limits
        self._size += recording.add(event)
        if recording.size > limits.answer_bytes:
            raise AnswerTooLargeError(
                f"The detached answer is larger than {limits.answer_bytes} bytes, the limit of "
                "this server. Stream it without detaching it, or ask for less."
            )
        while self._size > limits.total_bytes:
            oldest = self._of_the_largest_owner()
            if oldest is None:
                raise _no_room(limits)
            self.drop(oldest)

    def end(self, recording: Recording, error: BridgeError | None) -> None:
        """Record the end of one; its time starts."""
        recording.end(error)
        recording.ended_at = self._clock()
        mine = self._owners[recording.owner]
        mine[recording.request_id] = mine.pop(recording.request_id)
        later = asyncio.get_running_loop().call_later
        self._timers[recording] = later(self._limits.seconds, self.drop, recording)

    def drop(self, recording: Recording) -> None:
        """Keep an ended one no longer."""
        mine = self._owners.get(recording.owner, {})
        if mine.pop(recording.request_id, None) is None:
            return
        if not mine:
            del self._owners[recording.owner]
        self._size -= recording.size
        self._timers.pop(recording).cancel()

    def close(self) -> None:
        """Keep none of them, once all have ended."""
        for recording in list(self._timers):
            self.drop(recording)

    def _expired(self, recording: Recording) -> bool:
        ended_at = recording.ended_at
        return ended_at is not None and ended_at + self._limits.seconds <= self._clock()

    def _of_the_largest_owner(self) -> Recording | None:
        """Return the oldest ended one of the owner who has most of them in bytes."""
        candidates = [
            (sum(each.size for each in mine.values()), oldest)
            for mine in self._owners.values()
            if (oldest := _oldest(mine)) is not None
        ]
        return max(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def _oldest(recordings: dict[str, Recording]) -> Recording | None:
    return next((each for each in recordings.values() if each.ended), None)


def _no_room(limits: RecordingLimits) -> UnavailableError:
    return UnavailableError(
        f"The detached answers that are running need more than {limits.total_bytes} bytes, the "
        "limit of this server. Start fewer at a time.",
        reason="DETACHED_ANSWERS_TOO_LARGE",
        retryable=False,
    )
