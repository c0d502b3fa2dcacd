"""What is known of a request while it runs, and who is told: the log, the metrics, the traces.

The engine fills in one record a request and tells an observer when the request begins and when
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
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bridge.core.contract import (
    BOUNDS,
    CompletionRequest,
    Event,
    Finished,
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
"""Set by a door for the task that serves a request."""


def shown_model(request: CompletionRequest) -> str | None:
    """The model that is asked for, for logs: what is refused for its length is told cut off."""
    return None if request.model is None else request.model[: BOUNDS.name_characters]


class RequestRecord:
    """What is known of one request. Moments are seconds of the engine's clock."""

    __slots__ = (
        "_bodies",
        "_calls",
        "_last_at",
        "_text",
        "asked_at",
        "began_at",
        "ended_at",
        "ended_on",
        "error",
        "finished",
        "first_at",
        "gap_seconds",
        "gaps",
        "got",
        "leased_at",
        "model",
        "offered",
        "request",
        "started_at",
        "trace_parent",
        "trace_parts",
    )

    def __init__(
        self,
        request: CompletionRequest,
        started_at: float,
        *,
        bodies: bool = False,
        began_at: float = 0.0,
    ) -> None:
        """Keep the words of the answer too with `bodies`; `began_at` is the time of day."""
        self.request = request
        self.started_at = started_at
        self.began_at = began_at
        self.leased_at: float | None = None
        """When it got a session: it has waited in the queue until then."""
        self.asked_at: float | None = None
        """When the session had been told everything."""
        self.first_at: float | None = None
        """When the first part of the answer was there."""
        self.ended_at: float = started_at
        self.ended_on: float = began_at
        """The same as time of day."""
        self.got = ""
        """How its session was got: continued, warm, initialised, spawned; empty if it never was."""
        self.model = ""
        """The model that answers; empty before it does."""
        self.offered = ""
        """The same, or else the one asked for, if it is among those on offer; empty if not."""
        self.error = ""
        """The reason of the error that ended it; empty if none did."""
        self.finished: Finished | None = None
        self.gaps = [0] * (len(GAP_BOUNDS) + 1)
        """How many gaps between two parts of the answer fell into each of GAP_BOUNDS' buckets."""
        self.gap_seconds = 0.0
        """The sum of those gaps."""
        self.trace_parent = ""
        """The `traceparent` that Claude Code is handed, where the request is traced."""
        self.trace_parts: Any = None
        """Whatever the tracer keeps of it between beginning and end."""
        self._bodies = bodies
        self._last_at: float | None = None
        self._text: list[str] = []
        self._calls: list[list[str]] = []

    def leased(self, got: str, at: float) -> None:
        """Note that it has a session, its first or another, which has yet to be told."""
        self.got, self.leased_at, self.asked_at = got, at, None

    def see(self, event: Event, at: float) -> None:
        """Note an event of the answer."""
        if isinstance(event, Started):
            self.model = event.model
            return
        if isinstance(event, Finished):
            self.finished = event
            return
        last = self._last_at
        self._last_at = at
        if last is None:
            self.first_at = at
        else:
            gap = at - last
            self.gaps[bisect_left(GAP_BOUNDS, gap)] += 1
            self.gap_seconds += gap
        if self._bodies:
            self._keep(event)

    def _keep(self, event: Event) -> None:
        match event:
            case TextDelta(text):
                self._text.append(text)
            case ToolCallStart(_, id, name):
                self._calls.append([id, name])
            case ToolCallDelta(index, arguments):
                self._calls[index].append(arguments)

    @property
    def usage(self) -> Usage | None:
        """The tokens used, where the answer came to its end."""
        return self.finished.usage if self.finished else None

    def line(self) -> dict[str, Any]:
        """The record as the session log has it."""
        return {**self.metadata(), **self._words()} if self._bodies else self.metadata()

    def metadata(self) -> dict[str, Any]:
        """The record without a word of what was said; times in milliseconds."""

        def since(moment: float | None) -> int | None:
            return None if moment is None else round((moment - self.started_at) * 1000)

        request = self.request
        usage = self.usage
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.ended_on)),
            "request_id": request.request_id,
            "door": request.door,
            "key": request.caller,
            "model_asked": shown_model(request),
            "model": self.model or None,
            "session": self.got or None,
            "queue_ms": since(self.leased_at),
            "first_token_ms": since(self.first_at),
            "total_ms": since(self.ended_at),
            "finish": self.finished.reason if self.finished else None,
            "error": self.error or None,
            "input_tokens": usage.input_tokens if usage else None,
            "cache_read_tokens": usage.cache_read_tokens if usage else None,
            "cache_write_tokens": usage.cache_write_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
        }

    def _words(self) -> dict[str, Any]:
        return {
            "system": self.request.system,
            "messages": [dataclasses.asdict(message) for message in self.request.messages],
            "answer": "".join(self._text),
            "tool_calls": [
                {"id": id, "name": name, "arguments": "".join(arguments)}
                for id, name, *arguments in self._calls
            ],
        }


class Observer(Protocol):
    """Is told of every request. It never waits: it stands in the way of an answer."""

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
        """Tell each."""
        for observer in self._observers:
            try:
                observer.began(record)
            except Exception:
                logger.exception("%s failed", type(observer).__name__)

    def ended(self, record: RequestRecord) -> None:
        """Tell each."""
        for observer in self._observers:
            try:
                observer.ended(record)
            except Exception:
                logger.exception("%s failed", type(observer).__name__)
