"""The record of a request while it runs, and its observers: the log, the metrics, the traces.

The engine fills in one record per request and calls the observers when the request starts and when
it has ended. Each token costs one call of `RequestRecord.see`: a comparison and an increment of one
bucket; everything else is computed at the end.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

from bridge.core.contract import (
    BOUNDS,
    DEFAULT_PAYER,
    CompletionRequest,
    Cost,
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
"""Upper bounds, in seconds, of the buckets for the gaps between two tokens."""
_ID_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace of a caller's request, as received."""

    parent: str
    """W3C `traceparent`."""
    state: str = ""
    """W3C `tracestate`."""


incoming_trace: ContextVar[TraceContext | None] = ContextVar("incoming_trace", default=None)
"""Set by a front end for the task that serves a request."""


def shown_model(request: CompletionRequest) -> str | None:
    """Return the requested model for logs; a name refused for its length is truncated."""
    return None if request.model is None else request.model[: BOUNDS.name_characters]


@dataclass(slots=True)
class RequestTimes:
    """The times of a request in seconds of the engine's clock; its dates in Unix seconds."""

    started_at: float
    started_on: float = 0.0
    leased_at: float | None = None
    """When it left the queue: a session was assigned to it."""
    asked_at: float | None = None
    """When the session was ready."""
    first_token_at: float | None = None
    ended_at: float = 0.0
    ended_on: float = 0.0

    def since_start(self, moment: float) -> float:
        """Return the seconds since the start of the request."""
        return moment - self.started_at


@dataclass(slots=True)
class _Answer:
    """The content of an answer, for a log with bodies."""

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


# wide: one attribute for each thing that is recorded.
class RequestRecord:
    """The record of one request."""

    __slots__ = (
        "_answer",
        "_last_at",
        "billed",
        "cause",
        "cost",
        "error",
        "finished",
        "gap_seconds",
        "gaps",
        "model",
        "offered_model",
        "payer",
        "request",
        "session_source",
        "spent",
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
        """With `bodies`, keep the content of the answer too; `started_on` is in Unix seconds."""
        self.request = request
        self.times = RequestTimes(started_at, started_on, ended_at=started_at, ended_on=started_on)
        self.session_source: SessionSource | None = None
        """None until a session was assigned to it."""
        self.model = ""
        """The model that answers; empty until known."""
        self.offered_model = ""
        """The same, or else the requested one, if it is on offer; otherwise empty."""
        self.error = ""
        """The reason of the error that ended it; empty if there was none."""
        self.cause = ""
        """Claude Code's name of the failure; empty if it has none."""
        self.finished: Finished | None = None
        self.gaps = [0] * (len(GAP_BOUNDS) + 1)
        """The number of gaps between two parts of the answer in each of GAP_BOUNDS' buckets."""
        self.gap_seconds = 0.0
        """The sum of those gaps."""
        self.unseen_calls = 0
        """Upstream calls that Claude Code made by itself after an answer was complete."""
        self.spent = Usage()
        """Tokens of all its upstream calls, also of an answer that was cut."""
        self.cost = Cost()
        """Final once the request is booked."""
        self.payer = DEFAULT_PAYER
        """The name of the account that it is charged to, or was tried with last."""
        self.billed = False
        """Whether that account is billed for each token; a subscription is not."""
        self.trace_parent = ""
        """The `traceparent` for Claude Code, if the request is traced."""
        self.trace_state: Any = None
        """The tracer's state between the start and the end of the request."""
        self._last_at: float | None = None
        self._answer = _Answer() if bodies else None

    def leased(self, source: SessionSource, at: float) -> None:
        """Record that a session was assigned, which still has to be prepared."""
        self.session_source = source
        self.times.leased_at, self.times.asked_at = at, None

    def ended(self, at: float, on: float) -> None:
        """Record the end; `on` is in Unix seconds."""
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
        """The tokens used, if the answer is complete."""
        return self.finished.usage if self.finished else None

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the request; what is refused for its length is cut."""
        return {
            name[: BOUNDS.label_name_characters]: value[: BOUNDS.label_value_characters]
            for name, value in islice(self.request.labels.items(), BOUNDS.labels)
        }

    def line(self) -> dict[str, Any]:
        """Return the record as a line of the session log."""
        return {**self.metadata(), **self._callers_own(), **self._words()}

    def metadata(self) -> dict[str, Any]:
        """Return the record without any content; times are in milliseconds."""
        times = self.times

        def since(moment: float | None) -> int | None:
            return None if moment is None else round(times.since_start(moment) * 1000)

        request = self.request
        usage = self.usage
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(times.ended_on)),
            "request_id": request.request_id,
            "api": request.api,
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
            "cost_usd": self.cost.rounded_usd,
            "billed": self.billed,
            "payer": self.payer,
        }

    def _callers_own(self) -> dict[str, Any]:
        """Return what the caller says of the request; what is refused for its length is cut."""
        return {
            "client_request_id": self.request.client_request_id[:_ID_CHARACTERS] or None,
            "labels": self.labels or None,
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
    """Called for every request. It must not block: that would delay the answer."""

    def began(self, record: RequestRecord) -> None:
        """A request was received."""
        ...

    def ended(self, record: RequestRecord) -> None:
        """The request has ended, successfully or not; all but its cost is final."""
        ...

    def booked(self, record: RequestRecord) -> None:
        """Its cost is known, as far as it will be: milliseconds after its end. Called last."""
        ...


class Observers:
    """Several observers as one. A failing observer affects neither the others nor the answer."""

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

    def booked(self, record: RequestRecord) -> None:
        for observer in self._observers:
            try:
                observer.booked(record)
            except Exception:
                logger.exception("%s failed", type(observer).__name__)
