"""A gRPC-Web client, as far as a page has one: frames in the body of an ordinary HTTP response."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.parser import BytesParser
from typing import Final
from urllib.parse import unquote

import grpc
import httpx

from bridge.v1 import completion_pb2 as pb
from tests.support.grpc.client import GrpcCall

PAGE: Final = "https://chat.example.com"
"""The origin that the recipe of Envoy allows."""
COMPLETE: Final = "/bridge.v1.CompletionService/Complete"
_TRAILERS: Final = 0x80
_HEADERS: Final = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": PAGE}
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class WebCall:
    """One call of Complete, to be read like one of grpc.aio."""

    def __init__(self, response: httpx.Response) -> None:
        self._headers = response.headers
        self._chunks = response.aiter_raw()
        self._received = b""

    async def read(self) -> object:
        """Return the next message; EOF at the end. Raises AioRpcError."""
        if "grpc-status" in self._headers:
            # It ended before it began.
            return _end(self._headers)
        head = await self._take(5)
        body = await self._take(int.from_bytes(head[1:], "big"))
        if head[0] & _TRAILERS:
            return _end(dict(BytesParser().parsebytes(body).items()))
        return pb.CompleteResponse.FromString(body)

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._received += await anext(self._chunks)
        taken, self._received = self._received[:size], self._received[size:]
        return taken


def _end(trailers: Mapping[str, str]) -> object:
    code = _CODES[int(trailers["grpc-status"])]
    if code is grpc.StatusCode.OK:
        return grpc.aio.EOF
    pairs = [
        (name, b64decode(value + "==") if name.endswith("-bin") else value)
        for name, value in trailers.items()
    ]
    raise grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*pairs), unquote(trailers["grpc-message"])
    )


@asynccontextmanager
async def complete_from_a_page(
    client: httpx.AsyncClient, request: pb.CompleteRequest, **headers: str
) -> AsyncIterator[GrpcCall]:
    """Send a request to Complete; the client leaves at the end of the block."""
    message = request.SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    sent = {**_HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with client.stream("POST", COMPLETE, content=body, headers=sent) as response:
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == PAGE
        yield GrpcCall(WebCall(response))
