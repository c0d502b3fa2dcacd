"""What is the same at both APIs of a whole bridge, and what tools find out by themselves."""

from __future__ import annotations

import asyncio

import grpc
import httpx
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.support.grpc.client import question
from tests.support.harness import PATIENCE, RunningBridge, sim

LIMIT = 32 * 1024 * 1024


async def test_a_request_may_be_as_large_at_either_api(bridge: RunningBridge) -> None:
    large = "x" * LIMIT
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        call = pb_grpc.CompletionServiceStub(channel).Complete(question(system=large))
        # gRPC itself refuses it, before there is a request that could have an id.
        assert await asyncio.wait_for(call.code(), PATIENCE) is grpc.StatusCode.RESOURCE_EXHAUSTED
    body = {"model": "opus", "messages": [{"role": "user", "content": large}]}
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        reply = await client.post(f"{bridge.url}/v1/chat/completions", json=body)
    assert reply.status_code == 413


def test_a_tool_can_call_the_api_by_reflection_alone(bridge: RunningBridge) -> None:
    with grpc.insecure_channel(bridge.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        services = {name for name in database.get_services() if name.startswith("bridge.v1.")}
        methods = {
            f"{name}/{method.name}"
            for name in services
            for method in pool.FindServiceByName(name).methods
        }
    assert methods == {
        "bridge.v1.CompletionService/AttachCompletion",
        "bridge.v1.CompletionService/CancelCompletion",
        "bridge.v1.CompletionService/Complete",
        "bridge.v1.CompletionService/Converse",
        "bridge.v1.CompletionService/CountTokens",
        "bridge.v1.CompletionService/CreateCompletion",
        "bridge.v1.ModelService/GetModel",
        "bridge.v1.ModelService/ListModels",
        "bridge.v1.PoolService/GetPool",
        "bridge.v1.PoolService/ListRecentRequests",
        "bridge.v1.PoolService/WatchPool",
        "bridge.v1.UsageService/GetRequestUsage",
        "bridge.v1.UsageService/GetUsage",
    }


def test_requests_may_come_gzipped(bridge: RunningBridge) -> None:
    request = question(system="x" * 1_000_000)
    request.completion.messages[0].parts[0].text = sim(text="Unpacked.")
    with grpc.insecure_channel(bridge.target, compression=grpc.Compression.Gzip) as channel:
        call = pb_grpc.CompletionServiceStub(channel).Complete(request, timeout=PATIENCE)
        responses: list[pb.CompleteResponse] = list(call)
    assert "".join(response.event.text_delta.text for response in responses) == "Unpacked."
