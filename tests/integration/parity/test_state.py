"""What the APIs report about the server itself: the same, each in its own form."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.descriptor import Descriptor

from bridge.core.contract.states import (
    Health,
    HealthStatus,
    PoolState,
    Totals,
    UsageLimits,
    UsageWindow,
)
from bridge.http_server.operations.page import pool_object
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import pool_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.pool_pb2_grpc import PoolServiceStub
from tests.support.grpc.client import Talk
from tests.support.grpc.recent import in_the_words_of_the_log
from tests.support.harness import PATIENCE, RunningBridge, sim

WORDS = "nobody's business"


@pytest.fixture
def http(bridge: RunningBridge) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=bridge.url, timeout=PATIENCE, trust_env=False) as client:
        yield client


def test_both_apis_report_the_same_latest_requests(
    bridge: RunningBridge, http: httpx.Client
) -> None:
    message = {"role": "user", "content": sim(text=WORDS)}
    labels = {"team": "search", "note": "a\u00e9"}
    body = {"model": "opus", "messages": [message], "metadata": labels}
    http.post("/v1/chat/completions", json=body)
    http.post("/v1/chat/completions", json={"model": "claude-none", "messages": [message]})
    with grpc.insecure_channel(bridge.target) as channel:
        request = pb.CompleteRequest(
            completion=pb.CompletionSpec(
                max_output_tokens=1,
                messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=sim(tokens=3))])],
            ),
            labels=labels,
        )
        list(CompletionServiceStub(channel).Complete(request, timeout=PATIENCE))
        reply = PoolServiceStub(channel).ListRecentRequests(
            pool_pb2.ListRecentRequestsRequest(), timeout=PATIENCE
        )
    told = [in_the_words_of_the_log(request) for request in reply.requests]
    assert [request["api"] for request in told[:3]] == ["grpc", "http", "http"]
    assert [request["error"] for request in told[:3]] == [None, "MODEL_NOT_FOUND", None]
    assert [request["labels"] for request in told[:3]] == [labels, None, labels]
    assert told == http.get("/bridge/state").json()["recent"]
    assert WORDS not in str(reply)


async def test_a_request_that_cannot_be_read_is_one_too(
    start_bridge: Callable[..., RunningBridge],
) -> None:
    """The operator finds it by its id, in the log, on the page and in the metrics."""
    bridge = await asyncio.to_thread(start_bridge, pool_size=1, bridge_spares=0)
    hot = {"model": "opus", "temperature": 9, "messages": [{"role": "user", "content": "x"}]}
    async with (
        httpx.AsyncClient(base_url=bridge.url, timeout=PATIENCE, trust_env=False) as http,
        grpc.aio.insecure_channel(bridge.target) as channel,
    ):
        replies = [
            await http.post("/v1/chat/completions", json=hot),
            await http.post("/v1/chat/completions", content=b"{"),
            await http.post("/v1/responses", json={"model": "opus", "input": []}),
            await http.post("/v1/completions", json={"model": "opus", "prompt": ["a", "b"]}),
        ]
        call = CompletionServiceStub(channel).Complete(
            pb.CompleteRequest(completion=pb.CompletionSpec(model="haiku"))
        )
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        never = await Talk(channel).open(model="sonnet", max_output_tokens=0)
        assert await never.code() is grpc.StatusCode.INVALID_ARGUMENT
        talk = await Talk(channel).open(model="opus")
        await talk.ask("one")
        await talk.send(message=pb.UserMessage())
        assert (await talk.outcome()).failure is not None
        assert await talk.end() is grpc.StatusCode.OK
        recent = (await http.get("/bridge/state")).json()["recent"]
        metrics = (await http.get("/metrics")).text
    assert [reply.status_code for reply in replies] == [400] * 4
    told = {line["request_id"]: line for line in recent}
    assert len(told) == len(recent) == 8
    assert {reply.headers["x-request-id"] for reply in replies} <= told.keys()
    refused = [line for line in recent if line["error"]]
    assert {line["session"] for line in refused} == {None}
    assert Counter((line["api"], line["model_asked"]) for line in refused) == {
        ("http", "opus"): 3,
        ("http", None): 1,
        ("grpc", "haiku"): 1,
        ("grpc", "sonnet"): 1,
        ("grpc", "opus"): 1,
    }
    log = bridge.log_path.read_text()
    assert {json.loads(line)["request_id"] for line in log.splitlines()} == told.keys()
    assert 'bridge_requests_total{api="http",' in metrics
    assert 'outcome="invalid_value"' in metrics


TIMES = {"resets_at": "reset_time", "said_at": "report_time"}
"""HTTP's names of times, which are in Unix seconds there, and the proto's."""


def named(told: Mapping[str, Any], kind: Descriptor) -> set[str]:
    """What is reported under names that a message has no fields for."""
    unknown = set()
    for name, value in told.items():
        field = kind.fields_by_name.get(TIMES.get(name, name))
        if field is None:
            unknown.add(name)
        elif field.message_type is not None:
            parts = value if isinstance(value, list | tuple) else [value]
            for part in parts:
                if isinstance(part, dict):
                    unknown |= named(part, field.message_type)
    return unknown


def test_everything_the_page_gets_about_the_pool_has_a_field() -> None:
    plan = UsageLimits("allowed", windows=(UsageWindow("five_hour", 0.5),))
    totals = Totals(sessions={"warm": 1}, processes_replaced={"died": 1, "failed": 1, "worn": 1})
    health = Health(
        HealthStatus.OK, logged_in=True, account="max", cli_version="2", processes={"idle": 1}
    )
    told = pool_object(PoolState(health, 6, totals, plan))
    assert named({**told, "version": "1"}, pool_pb2.Pool.DESCRIPTOR) == set()
