"""A request that does not come: at the gRPC API the client must be played by hand for that."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from bridge.grpc_server.connections.limits import MAX_METADATA_BYTES
from bridge.grpc_server.server import GrpcServer
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.grpc_server.by_hand import begun
from tests.support.fakes import FakeService
from tests.support.grpc.client import question
from tests.support.waiting import soon


@pytest.mark.parametrize(
    "method",
    [
        "CompletionService/Complete",
        "CompletionService/CreateCompletion",
        "ModelService/ListModels",
    ],
)
@pytest.mark.parametrize("message", [b"", b"\x00\x00\x00\x00\x64half"], ids=["none", "half"])
async def test_a_request_that_does_not_come_is_cut_off(method: str, message: bytes) -> None:
    service = FakeService()
    async with GrpcServer(service, port=0, request_seconds=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(begun(f"/bridge.v1.{method}", message))
        received = b""
        # DEADLINE_EXCEEDED, in the trailers of the call.
        while b"did not arrive within 0.2 seconds" not in received:
            data = await soon(reader.read(65536))
            assert data, received
            received += data
        assert b"grpc-status\x014" in received
        writer.close()
        assert service.requests == []


async def test_metadata_of_a_call_are_limited() -> None:
    async with (
        GrpcServer(FakeService(), port=0) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = pb_grpc.CompletionServiceStub(channel)

        async def code(length: int) -> grpc.StatusCode:
            call = stub.Complete(question(), metadata=(("x-long", "x" * length),))
            try:
                async for _ in call:
                    pass
            except grpc.aio.AioRpcError:
                pass
            return await call.code()

        assert await soon(code(MAX_METADATA_BYTES)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await soon(code(MAX_METADATA_BYTES // 2)) is grpc.StatusCode.OK
