"""ASGI input and output: reads a body; starts, writes and ends an answer."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from bridge.simulator.api.failures import Failure

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# https://platform.claude.com/docs/en/api/errors: 32 MB for the Messages API.
MAX_REQUEST_BYTES = 32 * 1024 * 1024
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Gone(Exception):
    """The client disconnected while the request was read."""


class Refused(Exception):
    """The request is answered with an error status."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def invalid(message: str) -> Refused:
    """Return the refusal of a request that cannot be parsed."""
    return Refused(Failure(400, "invalid_request_error", message))


def parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
        if _SURROGATE.search(raw):
            # Half a surrogate pair, which the API refuses and which could not be written out again.
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        message = f"The request body is not valid JSON: {error}"
        raise invalid(message) from None
    if not isinstance(body, dict):
        raise invalid("Input should be an object")
    return body


async def read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        size += len(message.get("body", b""))
        # Keep reading, so that the client can read the refusal, but store nothing more.
        if size <= MAX_REQUEST_BYTES:
            chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if size > MAX_REQUEST_BYTES:
        message_text = "Request exceeds the maximum size"
        raise Refused(Failure(413, "request_too_large", message_text))
    return b"".join(chunks)


async def left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def start(send: Send, status: int, headers: Mapping[str, str], request_id: str) -> None:
    pairs = {"request-id": request_id, **{k.lower(): v for k, v in headers.items()}}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def write(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def respond(
    send: Send,
    status: int,
    body: Mapping[str, Any],
    request_id: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    data = json.dumps(body).encode()
    length = {"content-type": "application/json", "content-length": str(len(data))}
    await start(send, status, {**length, **(headers or {})}, request_id)
    await write(send, data, more=False)
