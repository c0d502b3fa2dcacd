"""A client that takes nothing, from the first byte of its reply on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from bridge.grpc_server.call_context import current_request_id
from bridge.grpc_server.connections.stalls import StallTimeout
from bridge.grpc_server.interceptors import _write_all
from tests.support.waiting import soon


class Full:
    """A call whose connection takes nothing any more."""

    async def send_initial_metadata(self, _metadata: Any) -> None:
        await asyncio.Event().wait()


async def test_a_reply_whose_head_is_not_taken_is_given_up() -> None:
    current_request_id.set("req_1")
    let_go = asyncio.Event()

    async def responses() -> AsyncGenerator[str, None]:
        try:
            yield "a"
        finally:
            let_go.set()

    async def serve() -> None:
        with StallTimeout(0.02) as guard:
            try:
                async with aclosing(responses()) as given:
                    await _write_all(given, Full(), guard, ())  # type: ignore[arg-type]
            finally:
                assert guard.stalled

    with pytest.raises(asyncio.CancelledError):
        await soon(asyncio.ensure_future(serve()))
    assert let_go.is_set()
