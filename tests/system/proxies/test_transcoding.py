"""The gRPC API as JSON over HTTP, which Envoy translates by the annotations of the .proto files."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict

from bridge.core.contract.request import CompletionRequest
from bridge.v1 import completion_pb2, model_pb2, pool_pb2
from tests.support.encoding import proto
from tests.support.harness import PATIENCE, RunningBridge, sim
from tests.support.harness import user as asking
from tests.system.docs.test_snippets import commands
from tests.system.proxies.recipes import KEY, LIMIT_SECONDS, NAME, Proxy

METHODS: list[MethodDescriptor] = [
    method
    for file in (completion_pb2, model_pb2, pool_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.GetOptions().HasExtension(annotations_pb2.http)
]


@pytest.fixture
async def http(envoy: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    async with envoy.client() as client:
        yield client


def body(prompt: str) -> dict[str, Any]:
    """A request in the JSON of its message."""
    return MessageToDict(proto(CompletionRequest((asking(prompt),))))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_every_annotated_method_is_reached(
    http: httpx.AsyncClient, method: MethodDescriptor
) -> None:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    path = getattr(rule, verb).replace("{id}", "opus").replace("{request_id}", "req_unknown")
    content = b"{}" if rule.body else None
    async with http.stream(verb.upper(), path, content=content) as response:
        assert response.headers["content-type"] in ("application/json", "text/event-stream")
        if response.status_code == 200:
            return
        details = json.loads(await response.aread())["details"]
        # Not the HTTP API's own answer to a URL that it does not know.
        assert details[0]["domain"] == "claude-code-bridge"


def test_there_are_annotations() -> None:
    assert len(METHODS) >= 8


async def test_a_whole_answer(http: httpx.AsyncClient) -> None:
    reply = await http.post("/bridge/v1/completions", json=body(sim(text="Hello")))
    assert reply.status_code == 200
    assert reply.json()["text"] == "Hello"
    assert reply.json()["finish_reason"] == "FINISH_REASON_STOP"


async def events(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    async for line in response.aiter_lines():
        if line:
            yield json.loads(line.removeprefix("data: "))["event"]


async def test_a_stream_outlives_the_limit_of_the_proxy(http: httpx.AsyncClient) -> None:
    prompt = body(sim(tokens=2, delay_ms=1500 * LIMIT_SECONDS))
    async with http.stream("POST", "/bridge/v1/completions:stream", json=prompt) as response:
        assert response.headers["content-type"] == "text/event-stream"
        seen = [event async for event in events(response)]
    assert {"heartbeat": {}} in seen
    assert (
        "".join(event["text_delta"]["text"] for event in seen if "text_delta" in event) == "w0 w1 "
    )
    assert seen[-1]["finished"]["reason"] == "FINISH_REASON_STOP"


async def test_a_detached_answer_is_attached_to(http: httpx.AsyncClient) -> None:
    id = uuid.uuid4().hex
    asked = {**body(sim(text="Hello")), "request_id": id, "labels": {"a": "b"}, "detached": True}
    async with (
        http.stream("POST", "/bridge/v1/completions:stream", json=asked) as response,
        aclosing(events(response)) as coming,
    ):
        kinds = [next(iter(await anext(coming)))]
        while kinds[-1] != "started":
            kinds.append(next(iter(await anext(coming))))
    # The first comes at once, with the id of the answer.
    assert set(kinds[:-1]) == {"heartbeat"}
    attach = f"/bridge/v1/completions/{id}:attach?after_sequence_number=1"
    async with http.stream("GET", attach) as response:
        seen = [event async for event in events(response) if "heartbeat" not in event]
    *deltas, usage, finished = seen
    assert "usage" in usage
    assert "finished" in finished
    assert "".join(event["text_delta"]["text"] for event in deltas) == "Hello"


async def test_each_token_arrives_at_once_and_a_client_that_leaves_stops_the_answer(
    behind: RunningBridge, http: httpx.AsyncClient
) -> None:
    mark, text = uuid.uuid4().hex, ""
    prompt = body(sim(tokens=3, hang_after=2, note=mark))
    async with http.stream("POST", "/bridge/v1/completions:stream", json=prompt) as response:
        coming = events(response)
        async with asyncio.timeout(PATIENCE):
            while text != "w0 w1 ":
                text += (await anext(coming)).get("text_delta", {}).get("text", "")
    await behind.simulator.ledger.wait_for_async(
        lambda all: any(one.contains(mark) and one.ended == "client_closed" for one in all),
        PATIENCE,
    )


async def test_an_error_with_its_details(http: httpx.AsyncClient) -> None:
    reply = await http.get("/bridge/v1/models/no-such-model")
    assert reply.status_code == 404
    error = reply.json()
    assert error["code"] == 5
    assert error["details"][0]["reason"] == "MODEL_NOT_FOUND"
    without_key = await http.get("/bridge/v1/models", headers={"authorization": ""})
    assert without_key.status_code == 401
    assert without_key.json()["details"][0]["reason"] == "INVALID_API_KEY"


async def test_fields_that_the_proxy_does_not_know_are_dropped(http: httpx.AsyncClient) -> None:
    """As docs/proxies.md warns: the bridge, which would name them, does not see them."""
    asked = body(sim(text="Hello"))
    reply = await http.post("/bridge/v1/completions", json={**asked, "no_such_field": 1})
    assert (reply.status_code, reply.json()["text"]) == (200, "Hello")
    assert "ignored_params" not in reply.json()


async def test_the_limits_of_a_client_pass(http: httpx.AsyncClient) -> None:
    for header, seconds in (("grpc-timeout", "200m"), ("x-bridge-first-token-timeout", "0.2")):
        prompt = body(sim(hang=True))
        reply = await http.post("/bridge/v1/completions", json=prompt, headers={header: seconds})
        assert reply.status_code == 504
        assert reply.json()["code"] == 4


@pytest.mark.parametrize("path", ["/bridge/v1/completions", "/bridge/v1/completions:stream"])
async def test_a_request_larger_than_the_buffers_of_the_proxy(
    http: httpx.AsyncClient, path: str
) -> None:
    reply = await http.post(path, json=body("Hello. " * 300_000 + sim(text="Read.")))
    assert reply.status_code == 200, reply.text
    assert "Read." in reply.text


@pytest.mark.parametrize(
    "arguments", [c for c in commands("curl") if f"//{NAME}/bridge/" in " ".join(c)], ids=" ".join
)
def test_what_the_documents_show(envoy: Proxy, arguments: list[str], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    trusted = tmp_path / "bridge.pem"
    trusted.write_bytes(envoy.cert)
    there = f"{NAME}:443:127.0.0.1:{envoy.port}"
    words = [word.replace("$BRIDGE_KEY", KEY) for word in arguments]
    done = subprocess.run(
        ["curl", "--fail", "--silent", "--cacert", trusted, "--connect-to", there, *words],
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert b"finished" in done.stdout
