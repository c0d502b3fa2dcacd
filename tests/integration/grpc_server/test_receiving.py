"""What requests may take of the memory before all of them is there, and silent connections."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bridge.core.access import Access, Uploads, parse_given
from bridge.grpc_server import ConnectionLimits, receiving
from bridge.grpc_server.server import GrpcServer
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.grpc_server.by_hand import PREFACE, call
from tests.support.fakes import FakeService
from tests.support.grpc.client import question
from tests.support.grpc.details import details_of
from tests.support.harness import PATIENCE
from tests.support.waiting import soon

COMPLETE = "/bridge.v1.CompletionService/Complete"
CHECK = "/grpc.health.v1.Health/Check"
MESSAGE = 1024 * 1024
ROOM = MESSAGE + 8 * 1024 * 1024
"""What is set aside for one."""
UNFINISHED = b"\0" + struct.pack(">I", MESSAGE // 2) + b"x" * 1000
KEYS = {"one": "first-key-of-the-test", "other": "other-key-of-the-test"}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


@asynccontextmanager
async def served(requests: int) -> AsyncGenerator[GrpcServer, None]:
    """A server with two keys, each of which may have so many unfinished requests."""
    access = Access(parse_given(",".join(f"{name}={key}" for name, key in KEYS.items())))
    uploads = Uploads(2 * requests * ROOM)
    async with GrpcServer(
        FakeService(), port=0, access=access, uploads=uploads, max_message_bytes=MESSAGE
    ) as running:
        yield running


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not reached():  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0.01)


async def ask(channel: grpc.aio.Channel, name: str) -> grpc.StatusCode:
    answer = pb_grpc.CompletionServiceStub(channel).Complete(
        question(), metadata=tuple(bearer(name).items()), timeout=PATIENCE
    )
    async for _ in answer:
        pass
    code: grpc.StatusCode = await answer.code()
    return code


async def test_unfinished_requests_of_a_key_keep_its_others_waiting() -> None:
    async with served(2) as running:
        target = f"127.0.0.1:{running.port}"
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        headers = bearer("one")
        writer.write(PREFACE + b"".join(call(n, COMPLETE, UNFINISHED, headers) for n in (1, 3, 5)))
        await until(lambda: running.receiving == 3)
        assert running.waiting == 1
        async with grpc.aio.insecure_channel(target) as channel:
            same = asyncio.create_task(ask(channel, "one"))
            await until(lambda: running.waiting == 2)
            assert await soon(ask(channel, "other")) is grpc.StatusCode.OK
            assert not same.done()
            writer.close()
            assert await soon(same) is grpc.StatusCode.OK
        await until(lambda: running.receiving == 0)


async def test_health_checks_that_do_not_come_are_few_and_short() -> None:
    async with served(2) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        count = receiving.KEYLESS_AT_ONCE + 1
        streams = range(1, 2 * count, 2)
        writer.write(PREFACE + b"".join(call(n, CHECK, UNFINISHED) for n in streams))
        await until(lambda: running.waiting == 1)
        received = b""
        while received.count(b"did not arrive within 1 seconds") < count:
            data = await soon(reader.read(65536))
            assert data, received
            received += data
        writer.close()


async def test_a_health_check_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "KEYLESS_SECONDS", PATIENCE)
    async with served(2) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        streams = range(1, 2 * receiving.KEYLESS_AT_ONCE, 2)
        writer.write(PREFACE + b"".join(call(n, CHECK, UNFINISHED) for n in streams))
        await until(lambda: running.receiving == receiving.KEYLESS_AT_ONCE)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            check = stub.Check(health_pb2.HealthCheckRequest())
            await until(lambda: running.waiting == 1)
            writer.close()
            assert (await soon(check)).status == health_pb2.HealthCheckResponse.SERVING


async def test_calls_of_reflection_are_counted_for_each_key() -> None:
    async with served(2) as running:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:

            def reflecting(name: str) -> Any:
                stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
                return stub.ServerReflectionInfo(metadata=tuple(bearer(name).items()))

            open_ = [reflecting("one") for _ in range(receiving.STREAMS_AT_ONCE + 1)]
            await until(lambda: running.waiting == 1)
            other = reflecting("other")
            await other.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            assert (await soon(other.read())).list_services_response.service
            for each in open_:
                each.cancel()
        await until(lambda: running.receiving == 0)


async def test_a_request_that_grpc_itself_refuses_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "bridge")
    async with (
        GrpcServer(FakeService(), port=0, max_message_bytes=MESSAGE) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        answer = pb_grpc.CompletionServiceStub(channel).Complete(question(system="x" * ROOM))
        assert await soon(answer.code()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        # gRPC tells the client before it ends the call here.
        await until(lambda: bool(caplog.messages))
        (line,) = caplog.messages
        assert line.endswith(
            f": no whole message arrived: the client left, or it has over {ROOM} bytes"
        )
        # None at all is another thing.
        nothing: Any = channel.stream_stream(COMPLETE)
        assert await soon(nothing(iter(())).code()) is grpc.StatusCode.INVALID_ARGUMENT
    assert "MALFORMED_MESSAGE" in caplog.messages[-1]


async def test_a_request_that_is_too_large_has_its_reason() -> None:
    async with (
        GrpcServer(FakeService(), port=0, max_message_bytes=MESSAGE) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        stub = pb_grpc.CompletionServiceStub(channel)
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            answer = stub.Complete(question(system="x" * MESSAGE), compression=compression)
            assert await soon(answer.code()) is grpc.StatusCode.RESOURCE_EXHAUSTED
            details = await details_of(answer)
            assert details.info.reason == "REQUEST_TOO_LARGE"
            assert str(MESSAGE) in details.message


@pytest.mark.parametrize("begun", [b"", PREFACE], ids=["silent", "without a call"])
async def test_connections_without_a_call_do_not_keep_others_out(
    begun: bytes,
) -> None:
    limits = ConnectionLimits(max_connections=2, handshake_seconds=1, idle_seconds=1)
    async with GrpcServer(FakeService(), port=0, limits=limits) as running:
        writers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(begun)
            writers.append((reader, writer))
        for reader, writer in writers:
            while await asyncio.wait_for(reader.read(65536), PATIENCE / 4):
                pass
            writer.close()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            assert await soon(ask(channel, "one")) is grpc.StatusCode.OK
