"""What a handler needs besides the request: the door's parts, and what the headers say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from bridge.core.errors import InvalidRequestError
from bridge.core.service import Service
from bridge.http_server.store import ResponseStore

TIMEOUT_HEADER = "x-bridge-timeout"
STRICT_HEADER = "x-bridge-strict"
REASONING_HEADER = "x-bridge-include-reasoning"


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """What of the server's settings concerns this door."""

    strict: bool = False
    """Whether parameters without effect are errors for every caller."""
    keep_alive_seconds: float = 10.0
    """How long a stream may be silent before a comment is sent."""
    stalled_client_seconds: float = 60.0
    """How long a client may leave a stream unread before it counts as gone."""
    max_body_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Door:
    """The parts that all routes of one app share."""

    service: Service
    settings: HttpSettings
    version: str
    clock: Callable[[], float]
    """Seconds since 1970."""
    new_id: Callable[[], str]
    """Hexadecimal digits, never the same twice."""
    store: ResponseStore | None = None
    """Where responses are kept; None keeps none."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a call says outside its body."""

    request_id: str = ""
    caller: str = ""
    strict: bool = False
    include_reasoning: bool = False
    timeout: float | None = None


def request_id_of(scope: Scope) -> str:
    """Return the id that the request was given."""
    request_id: str = scope["state"]["request_id"]
    return request_id


def caller_of(scope: Scope) -> str:
    """Return the name of the key the request came with; empty while there are no keys."""
    return ""


def call_options(scope: Scope, settings: HttpSettings) -> CallOptions:
    """Read the bridge's own headers."""
    headers = Headers(scope=scope)
    return CallOptions(
        request_id=request_id_of(scope),
        caller=caller_of(scope),
        strict=_flag(headers, STRICT_HEADER) or settings.strict,
        include_reasoning=_flag(headers, REASONING_HEADER),
        timeout=_timeout(headers),
    )


def _flag(headers: Headers, name: str) -> bool:
    value = headers.get(name, "").strip().lower()
    if value in {"true", "1"}:
        return True
    if value in {"false", "0", ""}:
        return False
    raise InvalidRequestError(f"The header {name} takes true or false.", field=name)


def _timeout(headers: Headers) -> float | None:
    value = headers.get(TIMEOUT_HEADER)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequestError(
            f"The header {TIMEOUT_HEADER} takes a number of seconds above 0, such as 30.",
            field=TIMEOUT_HEADER,
        )
    return seconds
