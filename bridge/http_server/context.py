"""What a handler needs besides the request: the parts of the server, and the bridge's headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any, ParamSpec, TypeVar

from starlette.datastructures import Headers
from starlette.types import Scope

from bridge.core.access import Uploads
from bridge.core.contract import (
    BOUNDS,
    CompletionRequest,
    FieldNames,
    InvalidRequestError,
    Place,
    Service,
)
from bridge.core.ledger import Ledger
from bridge.core.system import off_loop
from bridge.core.validation import seconds_from

_P = ParamSpec("_P")
_T = TypeVar("_T")

TIMEOUT_HEADER = "x-bridge-timeout"
QUEUE_TIMEOUT_HEADER = "x-bridge-queue-timeout"
FIRST_TOKEN_TIMEOUT_HEADER = "x-bridge-first-token-timeout"
IDLE_TIMEOUT_HEADER = "x-bridge-idle-timeout"
STRICT_HEADER = "x-bridge-strict"
REASONING_HEADER = "x-bridge-include-reasoning"
COST_HEADER = "x-bridge-include-cost"
REQUEST_ID_HEADER = "Idempotency-Key"
REPLICA_HEADER = "x-bridge-replica"

_MADE_BY_CLIENT = re.compile(r"stainless-[a-z]+-retry-.+")
"""What the vendors' clients set by themselves, each time anew: their retries are to have an answer,
also where the connection broke in the middle of the first."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The settings of the HTTP server."""

    strict: bool = False
    """Whether parameters without effect are errors for every caller."""
    include_reasoning: bool = False
    """Whether chat completions contain thinking if a request does not decide that."""
    keep_alive_seconds: float = 10.0
    """How long a stream may be silent before a comment is sent."""
    stalled_client_seconds: float = 60.0
    """How long a client may not read a stream before it counts as disconnected."""
    max_body_bytes: int = BOUNDS.request_bytes
    head_seconds: float = 15.0
    """How long the head of a request may take to arrive, from its first byte on."""
    body_seconds: float = 60.0
    """How long the body of a request may take to arrive."""
    idle_connection_seconds: int = 75
    """How long a connection is kept for a next request: longer than clients and proxies keep it, so
    that it is they who close it, and none sends a request into a closed one."""
    max_connections: int = 512
    """The maximum number of connections. Each takes a file descriptor; 1,024 are a usual limit."""
    grpc: str = ""
    """Where the gRPC API listens, as users write it; empty if it is not served."""
    public: bool = False
    """Whether other machines can reach it: then `/health` only returns its status without an admin
    key."""
    allowed_hosts: tuple[str, ...] = ()
    """Names of this server besides localhost and its addresses; may begin with `*.`."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of other web pages that may use the server."""
    replica: str = ""
    """The name of this server among several, sent with every reply; empty if it has none."""


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The parts that all routes of one app share."""

    service: Service
    settings: HttpSettings
    version: str
    clock: Callable[[], float]
    """Seconds since 1970."""
    new_id: Callable[[], str]
    """Generates hexadecimal digits, never the same twice."""
    metrics: Callable[[str], tuple[bytes, str]] | None = None
    """Returns the metrics and their media type for an `Accept` header."""
    recent: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    """Returns the latest requests, newest first, without their content."""
    asks_for_keys: Callable[[], bool] = bool
    """Whether a key is required now."""
    uploads: Uploads = field(default_factory=Uploads)
    """Counts the bodies being received."""
    ledger: Ledger | None = None
    """What was used; None if that is not recorded."""
    redis_up: Callable[[], bool] | None = None
    """Whether Redis can be used; None without one."""


class ReasoningDisplay(Enum):
    """Whether thinking is part of the reply, as far as the body does not say it."""

    OMIT = "omit"
    CHAT_DEFAULT = "chat default"
    """In chat completions, whose body cannot say it in OpenAI's own terms."""
    ASKED = "asked"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The parameters of a request outside its body. Not all of them concern decoders."""

    request_id: str = ""
    client_request_id: str = ""
    caller: str = ""
    owner: str = ""
    strict: bool = False
    reasoning: ReasoningDisplay = ReasoningDisplay.OMIT
    include_cost: bool = False
    timeout: float | None = None
    queue_timeout: float | None = None
    first_token_timeout: float | None = None
    idle_timeout: float | None = None
    large: bool = False
    """Whether the body is so large that it is decoded off the event loop."""

    async def off_loop(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do pure work on the body, in a thread if the body is large."""
        return await off_loop(self.large, work, *args, **kwargs)

    def applied_to(self, request: CompletionRequest) -> CompletionRequest:
        """Add the parameters outside the body to a decoded request."""
        return replace(
            request,
            request_id=self.request_id,
            client_request_id=self.client_request_id,
            caller=self.caller,
            owner=self.owner,
            api="http",
            strict=self.strict,
            include_cost=self.include_cost,
            timeout=self.timeout,
            queue_timeout=self.queue_timeout,
            first_token_timeout=self.first_token_timeout,
            idle_timeout=self.idle_timeout,
            field_names=partial(_field_name, request.field_names),
        )


def _field_name(of_body: FieldNames, place: Place) -> str:
    return REQUEST_ID_HEADER if place.path == "client_request_id" else of_body(place)


def request_id_of(scope: Scope) -> str:
    request_id: str = scope["state"]["request_id"]
    return request_id


def caller_of(scope: Scope) -> str:
    """Return the name of the request's key; empty if no key is required."""
    caller: str = scope["state"]["caller"]
    return caller


def owner_of(scope: Scope) -> str:
    """Return the owner of what a request stores: its key, not another one of the same name."""
    owner: str = scope["state"]["owner"]
    return owner


def is_admin(scope: Scope) -> bool:
    """Whether a request has a key with the scope admin, as all have if no key is required."""
    admin: bool = scope["state"]["admin"]
    return admin


def call_options(scope: Scope, settings: HttpSettings) -> CallOptions:
    """Parse the bridge's own headers."""
    headers = Headers(scope=scope)
    return CallOptions(
        request_id=request_id_of(scope),
        client_request_id=_client_request_id(headers),
        caller=caller_of(scope),
        owner=owner_of(scope),
        strict=_flag(headers, STRICT_HEADER) or settings.strict,
        reasoning=_reasoning(headers, settings),
        include_cost=_flag(headers, COST_HEADER),
        timeout=_timeout(headers, TIMEOUT_HEADER),
        queue_timeout=_timeout(headers, QUEUE_TIMEOUT_HEADER),
        first_token_timeout=_timeout(headers, FIRST_TOKEN_TIMEOUT_HEADER),
        idle_timeout=_timeout(headers, IDLE_TIMEOUT_HEADER),
    )


def _client_request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return "" if _MADE_BY_CLIENT.fullmatch(given) else given


def _reasoning(headers: Headers, settings: HttpSettings) -> ReasoningDisplay:
    if _flag(headers, REASONING_HEADER):
        return ReasoningDisplay.ASKED
    by_default = settings.include_reasoning and REASONING_HEADER not in headers
    return ReasoningDisplay.CHAT_DEFAULT if by_default else ReasoningDisplay.OMIT


def _flag(headers: Headers, name: str) -> bool:
    value = headers.get(name, "").strip().lower()
    if value in {"true", "1"}:
        return True
    if value in {"false", "0", ""}:
        return False
    raise InvalidRequestError(f"The header {name} must be true or false.", field=name)


def _timeout(headers: Headers, name: str) -> float | None:
    value = headers.get(name)
    return None if value is None else seconds_from(f"The header {name}", value, field=name)
