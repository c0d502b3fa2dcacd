"""What is known of a request while it runs, and its observers: the log, the metrics, the traces.

The engine fills in one record a request and calls the observers when the request begins and when
it has ended. What a token costs is one call of `RequestRecord.see`: a comparison and the count of
one bucket; everything else is worked out at the end.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from bridge.core.contract import (
    BOUNDS,
    CompletionRequest,
    Event,
    Finished,
    SessionSource,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

logger = logging.getLogger(__name__)

GAP_BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper ends, in seconds, of the buckets that the gaps between two tokens are counted in."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace that a caller's request belongs to, as it came."""

    parent: str
    """W3C `traceparent`."""
    state: str = ""
    """W3C `tracestate`."""


incoming_trace: ContextVar[TraceContext | None] = ContextVar("incoming_trace", default=None)
"""Set by a front end for the task that serves a request."""


def shown_model(request: CompletionRequest) -> str | None:
    """The model that is asked for, for logs: a name refused for its length is cut off."""
    return None if request.model is None else request.model[: BOUNDS.name_characters]


@dataclass(slots=True)
class RequestTimes:
    """The moments of a request in seconds of the engine's clock; its dates in Unix seconds."""

    started_at: float
    started_on: float = 0.0
    leased_at: float | None = None
    """When it left the queue: a session was assigned to it."""
    asked_at: float | None = None
    """When the session had everything it needed."""
    first_token_at: float | None = None
    ended_at: float = 0.0
    ended_on: float = 0.0

    def since_start(self, moment: float) -> float:
        """Seconds from the start of the request."""
        return moment - self.started_at


@dataclass(slots=True)
class _Answer:
    """The words of an answer, for a log with bodies."""

    text: list[str] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)

    def add(self, event: Event) -> None:
        match event:
            case TextDelta(text):
                self.text.append(text)
            case ToolCallStart(_, id, name):
                self.calls.append([id, name])
            case ToolCallDelta(index, arguments):
                self.calls[index].append(arguments)


class RequestRecord:
    """What is known of one request."""

    __slots__ = (
        "_answer",
        "_last_at",
        "cause",
        "error",
        "finished",
        "gap_seconds",
        "gaps",
        "model",
        "offered_model",
        "request",
        "session_source",
        "times",
        "trace_parent",
        "trace_state",
        "unseen_calls",
    )

    def __init__(
        self,
        request: CompletionRequest,
        started_at: float,
        *,
        bodies: bool = False,
        started_on: float = 0.0,
    ) -> None:
        """Keep the words of the answer too with `bodies`; `started_on` is in Unix seconds."""
        self.request = request
        self.times = RequestTimes(started_at, started_on, ended_at=started_at, ended_on=started_on)
        self.session_source: SessionSource | None = None
        """None while no session was assigned to it."""
        self.model = ""
        """The model that answers; empty before it does."""
        self.offered_model = ""
        """The same, or else the one asked for, if it is among those on offer; empty if not."""
        self.error = ""
        """The reason of the error that ended it; empty if none did."""
        self.cause = ""
        """How Claude Code names what failed; empty where it names nothing."""
        self.finished: Finished | None = None
        self.gaps = [0] * (len(GAP_BOUNDS) + 1)
        """How many gaps between two parts of the answer fell into each of GAP_BOUNDS' buckets."""
        self.gap_seconds = 0.0
        """The sum of those gaps."""
        self.unseen_calls = 0
        """Upstream calls that Claude Code has made by itself once an answer was whole."""
        self.trace_parent = ""
        """The `traceparent` that Claude Code is handed, where the request is traced."""
        self.trace_state: Any = None
        """What the tracer keeps between the beginning and the end of the request."""
        self._last_at: float | None = None
        self._answer = _Answer() if bodies else None

    def leased(self, source: SessionSource, at: float) -> None:
        """A session was assigned to it, its first or another, which has yet to be prepared."""
        self.session_source = source
        self.times.leased_at, self.times.asked_at = at, None

    def ended(self, at: float, on: float) -> None:
        """It is over, `on` in Unix seconds."""
        self.times.ended_at, self.times.ended_on = at, on

    def see(self, event: Event, at: float) -> None:
        """Record an event of the answer."""
        if isinstance(event, Started):
            self.model = event.model
            return
        if isinstance(event, Finished):
            self.finished = event
            return
        last = self._last_at
        self._last_at = at
        if last is None:
            self.times.first_token_at = at
        else:
            gap = at - last
            self.gaps[bisect_left(GAP_BOUNDS, gap)] += 1
            self.gap_seconds += gap
        if self._answer is not None:
            self._answer.add(event)

    @property
    def usage(self) -> Usage | None:
        """The tokens used, where the answer came to its end."""
        return self.finished.usage if self.finished else None

    def line(self) -> dict[str, Any]:
        """The record as the session log has it."""
        return {**self.metadata(), **self._words()}

    def metadata(self) -> dict[str, Any]:
        """The record without a word of what was said; times in milliseconds."""
        times = self.times

        def since(moment: float | None) -> int | None:
            return None if moment is None else round(times.since_start(moment) * 1000)

        request = self.request
        usage = self.usage
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(times.ended_on)),
            "request_id": request.request_id,
            "door": request.door,
            "key": request.caller,
            "model_asked": shown_model(request),
            "model": self.model or None,
            "session": self.session_source,
            "queue_ms": since(times.leased_at),
            "first_token_ms": since(times.first_token_at),
            "total_ms": since(times.ended_at),
            "finish": self.finished.reason if self.finished else None,
            "error": self.error or None,
            "error_cause": self.cause or None,
            "input_tokens": usage.input_tokens if usage else None,
            "cache_read_tokens": usage.cache_read_tokens if usage else None,
            "cache_write_tokens": usage.cache_write_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "unseen_calls": self.unseen_calls or None,
        }

    def _words(self) -> dict[str, Any]:
        if self._answer is None:
            return {}
        return {
            "system": self.request.system,
            "messages": [dataclasses.asdict(message) for message in self.request.messages],
            "answer": "".join(self._answer.text),
            "tool_calls": [
                {"id": id, "name": name, "arguments": "".join(arguments)}
                for id, name, *arguments in self._answer.calls
            ],
        }


class Observer(Protocol):
    """Is called for every request. It never waits: that would delay the answer."""

    def began(self, record: RequestRecord) -> None:
        """A request has come in."""
        ...

    def ended(self, record: RequestRecord) -> None:
        """It is over, however it went; the record changes no more."""
        ...


class Observers:
    """Several observers as one. One that fails costs neither the others nor the answer."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def began(self, record: RequestRecord) -> None:
        for observer in self._observers:
            try:
                observer.began(record)
            except Exception:
                logger.exception("%s failed", type(observer).__name__)

    def ended(self, record: RequestRecord) -> None:
        for observer in self._observers:
            try:
                observer.ended(record)
            except Exception:
                logger.exception("%s failed", type(observer).__name__)
