"""Reading the JSON body of a request."""

from __future__ import annotations

import json
import math
from typing import NoReturn

from starlette.requests import Request

from bridge.core.errors import ClientClosedError, InvalidRequestError, TooLargeError


async def read_json(request: Request, limit: int) -> object:
    """Read the body, of at most `limit` bytes, as JSON.

    The bytes are counted as they come: a length that the client announces proves nothing.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientClosedError("The client closed the connection inside its request.")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return parse_json(bytes(body))


def parse_json(body: bytes) -> object:
    """Parse JSON as the standard has it, without NaN and Infinity."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        # Half of an escaped surrogate pair, as left by cutting a text in JavaScript, is no
        # Unicode text and could not be written out again.
        return _mended(value) if b"\\ud" in body.lower() else value
    except (ValueError, RecursionError) as exc:
        raise InvalidRequestError(
            "The body of the request is not valid JSON. Send a JSON object, encoded as UTF-8.",
            reason="INVALID_JSON",
        ) from exc


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"The body of the request is larger than {limit} bytes. Send less, or raise the limit."
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _mended(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return value
