"""The server itself: address, models, health, reflection, drain."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import (
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection_pb2

from bridge.core.contract.events import Event
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import HealthStatus
from bridge.grpc_server.server import GrpcServer
from bridge.v1 import completion_pb2_grpc, model_pb2, model_pb2_grpc
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import STARTED, STOP, FakeService, for_ever_after_the_first_event
from tests.support.grpc.client import question, read
from tests.support.waiting import soon

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = [
    "",
    "bridge.v1.CompletionService",
    "bridge.v1.ModelService",
    "bridge.v1.PoolService",
    "bridge.v1.UsageService",
]


def test_fork_support_is_off() -> None:
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"


async def test_models(serve: Serve) -> None:
    _, channel = await serve()
    stub = model_pb2_grpc.ModelServiceStub(channel)
    listed = await stub.ListModels(model_pb2.ListModelsRequest())
    assert [model.id for model in listed.models] == ["opus", "anthropic/claude-opus-5"]
    call = stub.GetModel(model_pb2.GetModelRequest(id="opus"))
    assert (await call).model == listed.models[0]
    assert "x-request-id" in dict(tuple(await call.initial_metadata()))


@pytest.mark.parametrize(
    ("name", "code"),
    [("gpt", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INVALID_ARGUMENT)],
)
async def test_a_model_that_is_not_there(serve: Serve, name: str, code: grpc.StatusCode) -> None:
    _, channel = await serve()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(id=name))
    assert caught.value.code() is code


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", ""])
async def test_an_address_in_use_is_reported_clearly(service: FakeService, host: str) -> None:
    async with GrpcServer(service, port=0) as first:
        second = GrpcServer(service, host=host, port=first.port)
        with pytest.raises(OSError, match=rf":{first.port} is in use.*GRPC_PORT"):
            await second.start()


async def test_a_port_held_by_another_program_is_in_use(service: FakeService) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="is in use"):
            await GrpcServer(service, port=port).start()


async def test_a_host_that_does_not_exist(service: FakeService) -> None:
    with pytest.raises(OSError, match=r"no\.such\.host\.invalid"):
        await GrpcServer(service, host="no.such.host.invalid", port=0).start()


async def test_a_port_is_free_again_at_once(service: FakeService) -> None:
    async with GrpcServer(service, port=0) as first:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{first.port}")
        async with channel:
            await channel.channel_ready()
    async with GrpcServer(service, port=first.port):
        pass


async def test_every_address_of_a_name_is_served_on_one_port(service: FakeService) -> None:
    found = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    async with GrpcServer(service, host="localhost", port=0) as server:
        for family, *_, address in found:
            with closing(socket.socket(family)) as probe:
                probe.connect((address[0], server.port))


async def check(channel: grpc.aio.Channel, name: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    response = await soon(stub.Check(health_pb2.HealthCheckRequest(service=name)))
    return int(response.status)


@pytest.mark.parametrize("name", SERVICES)
async def test_health_follows_the_service(serve: Serve, service: FakeService, name: str) -> None:
    server, channel = await serve()
    assert await check(channel, name) == SERVING
    service.status = HealthStatus.NOT_LOGGED_IN
    assert await check(channel, name) == SERVING
    await server.refresh_health()
    assert await check(channel, name) == NOT_SERVING


async def test_the_health_of_an_unknown_service_is_not_found(serve: Serve) -> None:
    _, channel = await serve()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(channel, "nobody.v1.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_server_that_starts_without_a_login_reports_that(
    serve: Serve, service: FakeService
) -> None:
    service.status = HealthStatus.NOT_LOGGED_IN
    _, channel = await serve()
    assert await check(channel) == NOT_SERVING
    assert await check(channel, "liveness") == SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_every_service_and_describes_it(serve: Serve, version: str) -> None:
    _, channel = await serve()
    call: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = await soon(call.read())
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        "bridge.v1.CompletionService",
        "bridge.v1.ModelService",
        "bridge.v1.PoolService",
        "bridge.v1.UsageService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for name in names:
        symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        await call.write(symbol)
        described = await soon(call.read())
        files = described.file_descriptor_response.file_descriptor_proto
        found = FileDescriptorProto.FromString(files[0])
        assert name in {f"{found.package}.{service.name}" for service in found.service}
        by_name = reflection_pb2.ServerReflectionRequest(file_by_filename=found.name)
        await call.write(by_name)
        assert (await soon(call.read())).file_descriptor_response == (
            described.file_descriptor_response
        )


async def test_a_drain_lets_running_answers_end_and_informs_the_watchers(
    serve: Serve, service: FakeService
) -> None:
    more = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield STARTED
        await more.wait()
        yield STOP

    service.script = script
    server, channel = await serve()
    health: Any = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await soon(watch.read())).status == SERVING
    call = completion_pb2_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)

    draining = asyncio.create_task(server.drain(600))
    assert (await soon(watch.read())).status == NOT_SERVING
    assert not draining.done()
    more.set()
    assert (await read(call)).event.WhichOneof("event") == "usage"
    # The watch is still open: it is not awaited.
    await soon(draining)


async def test_after_the_grace_an_answer_ends_as_draining(
    serve: Serve, service: FakeService
) -> None:
    service.script = for_ever_after_the_first_event
    server, channel = await serve()
    call = completion_pb2_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    await soon(server.drain(0.1))
    assert await soon(call.code()) is grpc.StatusCode.UNAVAILABLE
    assert b"DRAINING" in dict(tuple(await call.trailing_metadata()))["grpc-status-details-bin"]


async def test_stop_returns_after_the_cleanup_of_every_answer(
    serve: Serve, service: FakeService
) -> None:
    may_end = asyncio.Event()
    cleaned = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        try:
            yield STARTED
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            cleaned.set()

    service.script = script
    server, channel = await serve()
    call = completion_pb2_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    stopping = asyncio.create_task(server.stop())
    # That something does not happen can only be seen by waiting for it a while.
    done, _ = await asyncio.wait({stopping}, timeout=0.3)
    assert not done
    may_end.set()
    await soon(stopping)
    assert cleaned.is_set()


async def test_a_server_that_was_never_started_can_be_stopped(service: FakeService) -> None:
    await GrpcServer(service, port=0).stop()
