"""What a call leaves in memory: nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from bridge.core.contract.errors import UnavailableError
from bridge.core.contract.events import Event
from bridge.core.contract.request import CompletionRequest
from bridge.v1 import completion_pb2 as pb
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import STARTED, FakeService, Script, hello
from tests.support.grpc.client import question
from tests.support.waiting import soon

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def _fails(request: CompletionRequest) -> AsyncGenerator[Event, None]:
    yield STARTED
    raise UnavailableError("Not now.")


@pytest.mark.parametrize(
    ("script", "request_", "code"),
    [
        (hello, question(), grpc.StatusCode.OK),
        (_fails, question(), grpc.StatusCode.UNAVAILABLE),
        (hello, question(system="x", sampling=pb.Sampling(temperature=9)), INVALID),
        (hello, question(tools=[pb.Tool(name="a", parameters_json="[")] * 25), INVALID),
    ],
    ids=["answered", "failed", "refused", "refused for many reasons"],
)
async def test_a_request_is_freed_with_its_call(
    serve: Serve, service: FakeService, script: Script, request_: Any, code: grpc.StatusCode
) -> None:
    """Not when the garbage collector comes by: until then it could hold gigabytes of them."""
    service.script = script
    _, channel = await serve()
    # As bytes, so that whatever is found is the server's.
    sent = request_.SerializeToString()
    ask: Any = channel.unary_stream("/bridge.v1.CompletionService/Complete")
    gc.collect()
    before = _held()
    gc.disable()
    try:
        for _ in range(3):
            call = ask(sent)
            with suppress(grpc.aio.AioRpcError):
                while await soon(call.read()) is not grpc.aio.EOF:
                    pass
            assert await soon(call.code()) is code

        async def none_left() -> None:
            while _held() > before:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0.01)

        await soon(none_left())
    finally:
        gc.enable()


def _held() -> int:
    return sum(isinstance(each, pb.CompleteRequest) for each in gc.get_objects())
