"""The interface between the HTTP server and the APIs that it serves.

A dialect is one vendor's API. The server handles connections, limits, streams and keys; the dialect
defines everything that the vendor's clients recognise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from bridge.core.contract import Allowances, BridgeError, CompletionRequest, Event
from bridge.http_server.context import CallOptions, ServerContext
from bridge.http_server.event_encoder import EventEncoder

JsonDict: TypeAlias = dict[str, Any]


class Collector(Protocol):
    """Collects an answer that is not streamed."""

    def feed(self, event: Event) -> bytes: ...

    def reply(self) -> JsonDict:
        """Build the object; raises UnavailableError if the answer ended prematurely."""
        ...


@dataclass(frozen=True, slots=True)
class StreamedCall:
    """A completion to be answered as a stream."""

    request: CompletionRequest
    encoder: EventEncoder
    conclude: Callable[[], Awaitable[bytes]] | None = None
    """Returns what ends the stream, once the answer is complete."""


@dataclass(frozen=True, slots=True)
class WholeCall:
    """A completion to be answered with one object."""

    request: CompletionRequest
    collector: Collector
    conclude: Callable[[], Awaitable[JsonDict]] | None = None
    """Returns the reply, once the answer is complete; without it, the collector does."""


@dataclass(frozen=True, slots=True)
class DetachedCall:
    """A completion that goes on without its client."""

    request: CompletionRequest
    start: Callable[[CompletionRequest], Awaitable[Response]]
    """Starts it and returns the reply, which need not have the answer."""


Call: TypeAlias = StreamedCall | WholeCall | DetachedCall

Decoder: TypeAlias = Callable[[object, CallOptions], Awaitable[Call]]
"""Decodes the JSON of a body; raises a BridgeError that names the field."""


@dataclass(frozen=True, slots=True)
class BrowserHeaders:
    """The headers of a dialect that pages of allowed origins may use, in lower case."""

    sent: frozenset[str] = frozenset()
    sent_prefixes: tuple[str, ...] = ()
    read: frozenset[str] = frozenset()
    """The reply's headers that the page may read."""


class Dialect(Protocol):
    """One vendor's API over HTTP."""

    @property
    def browser_headers(self) -> BrowserHeaders:
        """The headers that a page may send and read, besides the server's own."""
        ...

    @property
    def open_urls(self) -> frozenset[str]:
        """The URLs that need no key."""
        ...

    def add_routes(self, router: APIRouter, server: ServerContext) -> None:
        """Add the API's routes; completions are answered by `endpoint.respond`.

        Two dialects may share a URL: `speaks` then decides which one answers a request.
        """
        ...

    def schemas(self) -> Mapping[str, Any]:
        """The JSON Schemas that the routes refer to in the OpenAPI description."""
        ...

    def speaks(self, scope: Scope) -> bool:
        """Whether a header or the URL shows that a request's client uses this dialect.

        Called only for URLs that do not belong to one dialect alone.
        """
        ...

    def secret(self, headers: Headers) -> str | None:
        """The key in a request; None if there is none, or more than one."""
        ...

    def reply_headers(self, request_id: str, seconds: float) -> Mapping[str, str]:
        """The headers of every reply, sent `seconds` after the request."""
        ...

    def limit_headers(self, allowances: Allowances, now: float) -> Mapping[str, str]:
        """The headers that show the limits of a request's key; `now` is in Unix seconds."""
        ...

    def missing(self, path: str) -> BridgeError | None:
        """The message for a URL that the vendor has and this server has not, if it is known."""
        ...

    def error_response(
        self, error: BridgeError, request_id: str, scope: Scope | None = None
    ) -> Response:
        """The reply to an error, with its status, envelope and headers.

        Without a `scope` there is no request yet: the connection itself is refused.
        """
        ...


def dialect_of(scope: Scope) -> Dialect:
    """Return the dialect in which a request is answered, even if it fails."""
    dialect: Dialect = scope["state"]["dialect"]
    return dialect
