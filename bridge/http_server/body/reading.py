"""Reads the JSON body of a request."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request

from bridge.core.access import Upload
from bridge.core.contract import (
    BOUNDS,
    ClientClosedError,
    InvalidRequestError,
    RequestTimeoutError,
    TooLargeError,
)
from bridge.core.system import LARGE_BYTES, off_loop
from bridge.core.validation import NotJsonError, TooNestedError, parse_strict
from bridge.http_server.body.encodings import BodyTooLargeError, check_encoding, decoded
from bridge.http_server.errors import HttpError

_FORMS: Final = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})


async def read_json(request: Request, limit: int, seconds: float, upload: Upload) -> object:
    """Read and parse a body of at most `limit` bytes, which must arrive within `seconds`.

    Raises InvalidRequestError, TooLargeError, RequestTimeoutError, ClientClosedError, and HttpError
    for an unsupported encoding or content type.
    """
    encoding = check_encoding(", ".join(request.headers.getlist("content-encoding")))
    try:
        async with asyncio.timeout(seconds):
            body = await _read(request, limit, upload)
    except TimeoutError:
        raise RequestTimeoutError(
            f"The request body did not arrive within {seconds:g} seconds."
        ) from None
    if encoding:
        try:
            # Off the event loop: a few bytes can decompress to the largest body.
            body = await asyncio.to_thread(decoded, body, encoding, limit)
        except BodyTooLargeError:
            raise _too_large(limit) from None
        upload.hold(len(body))
    _refuse_form(request.headers.get("content-type", ""), body)
    return await off_loop(len(body) > LARGE_BYTES, parse_json, body)


def _refuse_form(kind: str, body: bytes) -> None:
    """Raise HttpError for a form, but not for JSON labelled as one, as by curl."""
    name = kind.partition(";")[0].strip().lower()
    if name in _FORMS and not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        raise HttpError(
            415,
            f"The request body is a form ({name}). Send a JSON object "
            "with Content-Type: application/json.",
            reason="UNSUPPORTED_MEDIA_TYPE",
        )


async def _read(request: Request, limit: int, upload: Upload) -> bytes:
    """Read the body. Its bytes are counted as they arrive: the announced length proves nothing."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientClosedError("The client closed the connection while sending the request.")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        upload.hold(len(body))
        more = message.get("more_body", False)
    return bytes(body)


def parse_json(body: bytes) -> object:
    """Parse standard JSON, without NaN and Infinity; raises InvalidRequestError."""
    try:
        # Some clients put a byte order mark before it.
        text = body.decode("utf-8-sig")
        return parse_strict(text, levels=BOUNDS.json_levels, values=BOUNDS.json_values)
    except TooNestedError:
        raise InvalidRequestError(
            f"The request body has more than {BOUNDS.json_levels} levels of arrays and "
            f"objects, or more than {BOUNDS.json_values} values.",
            reason="NESTED_TOO_DEEPLY",
        ) from None
    except (NotJsonError, UnicodeDecodeError) as error:
        where = f" ({error})" if isinstance(error, NotJsonError) and str(error) else ""
        raise InvalidRequestError(
            f"The request body is not valid JSON{where}. Send a JSON object, encoded as UTF-8.",
            reason="INVALID_JSON",
        ) from None


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"The request body is larger than {limit} bytes. Send less.")
