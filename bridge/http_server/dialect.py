"""The seam between the HTTP server and the APIs it speaks.

A dialect is one vendor's API. The server has the connections, the limits, the streams and the
keys; everything that a client of the vendor would recognise is the dialect's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from bridge.core.contract import BridgeError, CompletionRequest, Event
from bridge.http_server.context import CallOptions, ServerContext
from bridge.http_server.event_encoder import EventEncoder

JsonDict: TypeAlias = dict[str, Any]


class Collector(Protocol):
    """Gathers an answer that is not streamed."""

    def feed(self, event: Event) -> bytes:
        """Take one event."""
        ...

    def reply(self) -> JsonDict:
        """Build the object; raises UnavailableError if the answer ended prematurely."""
        ...


@dataclass(frozen=True, slots=True)
class StreamedCall:
    """A completion that is asked for, to be answered as a stream."""

    request: CompletionRequest
    encoder: EventEncoder
    conclude: Callable[[], Awaitable[bytes]] | None = None
    """Gives what ends the stream, once the answer is complete."""


@dataclass(frozen=True, slots=True)
class WholeCall:
    """A completion that is asked for, to be answered with one object."""

    request: CompletionRequest
    collector: Collector
    conclude: Callable[[], Awaitable[JsonDict]] | None = None
    """Gives the reply, once the answer is complete; without it, the collector does."""


Call: TypeAlias = StreamedCall | WholeCall

Decoder: TypeAlias = Callable[[object, CallOptions], Awaitable[Call]]
"""Decodes the JSON of a body; raises a BridgeError that names the field."""


@dataclass(frozen=True, slots=True)
class BrowserHeaders:
    """The headers of a dialect that a page of a listed origin may use, in lower case."""

    sent: frozenset[str] = frozenset()
    sent_prefixes: tuple[str, ...] = ()
    read: frozenset[str] = frozenset()
    """Of the reply."""


class Dialect(Protocol):
    """One vendor's API over HTTP."""

    @property
    def browser_headers(self) -> BrowserHeaders:
        """What a page may send and read, besides the server's own headers."""
        ...

    @property
    def open_urls(self) -> frozenset[str]:
        """The URLs that need no key."""
        ...

    def add_routes(self, router: APIRouter, server: ServerContext) -> None:
        """Add the API's routes; those of completions answer by `endpoint.respond`.

        Two dialects may have one URL: the request decides by `speaks` which of them answers.
        """
        ...

    def schemas(self) -> Mapping[str, Any]:
        """The JSON schemas that the routes refer to in the OpenAPI description."""
        ...

    def speaks(self, scope: Scope) -> bool:
        """Whether a request shows, by a header or its URL, that its sender speaks this dialect.

        Asked only for URLs that are not one dialect's alone.
        """
        ...

    def secret(self, headers: Headers) -> str | None:
        """The key that came with a request; None where there is none, or more than one."""
        ...

    def reply_headers(self, request_id: str, seconds: float) -> Mapping[str, str]:
        """The headers of every reply; `seconds` have gone by since the request."""
        ...

    def missing(self, path: str) -> BridgeError | None:
        """What to say of a URL that the vendor has and this server has not, if it is known."""
        ...

    def error_response(
        self, error: BridgeError, request_id: str, scope: Scope | None = None
    ) -> Response:
        """The reply to an error, with its status, envelope and headers.

        Without a `scope` there was no request yet: the connection itself is refused.
        """
        ...


def dialect_of(scope: Scope) -> Dialect:
    """Return the dialect in which a request is answered, whatever becomes of it."""
    dialect: Dialect = scope["state"]["dialect"]
    return dialect
