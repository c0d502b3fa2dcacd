"""Schemas that would keep whatever checks them busy for minutes, or for ever."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridge.v1 import completion_pb2 as pb
from tests.integration.cli.test_serve import alive, children_of, served
from tests.support.grpc.client import complete, question, user
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.http.client import HttpCall
from tests.support.replies import Failure

Start = Callable[..., RunningBridge]
Schema = dict[str, Any]


def within(part: Schema, **more: Any) -> Schema:
    return {"type": "object", "properties": {"a": part}, **more}


def doubled(levels: int) -> Schema:
    """Each definition refers twice to the next."""
    definitions: Schema = {str(levels): {}}
    for level in range(levels):
        reference = {"$ref": f"#/$defs/{level + 1}"}
        definitions[str(level)] = {"allOf": [reference, reference]}
    return within({"$ref": "#/$defs/0"}, **{"$defs": definitions})


# Refused before anything is made of them.
REFUSED = {
    "doubled references": doubled(18),
    "doubled dynamic references": json.loads(
        json.dumps(doubled(18)).replace("$ref", "$dynamicRef")
    ),
    "a pattern of 40 kB": within({"pattern": "(" * 20_000 + ")" * 20_000}),
    "names that are patterns": within({"patternProperties": {"a" * 40_000: {}}}),
    "5,000 properties": within({"properties": {f"p{number}": {} for number in range(5_000)}}),
    "5,000 properties of anything": within({"properties": {f"p{i}": True for i in range(5_000)}}),
    "a long list of values": within({"enum": list(range(30_000))}),
    "a long text": within({"description": "x" * 60_000}),
}

# The dialect's own schema wants these to be unlike each other, and they cannot be sorted.
UNLIKE = [item for number in range(4_000) for item in ([number], str(number))]
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
SLOW_ITSELF = within({"allOf": [{"enum": UNLIKE[:700]}] * 9}, **{"$schema": DRAFT_4})

SLOW_ANSWER = within({"type": "array", "allOf": [{"uniqueItems": True}] * 900})
ANSWER = json.dumps({"a": UNLIKE[:400]})


def body(schema: Schema, text: str, *, stream: bool = False, tool: bool = False) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    function = {"type": "function", "function": {"name": "look", "parameters": schema}}
    return {
        "model": "default",
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
        **({"tools": [function]} if tool else {"response_format": form}),
    }


async def over_http(url: str, schema: Schema, text: str, **how: bool) -> Failure:
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        reply = await HttpCall(client, body(schema, text, **how)).finish()
    assert reply.failure is not None, "it was answered"
    return replace(reply.failure, reason=reply.failure.reason.upper())


async def over_grpc(target: str, schema: Schema, text: str, *, tool: bool = False) -> Failure:
    request = question(messages=[user(text)])
    if tool:
        request.completion.tools.append(pb.Tool(name="look", parameters_json=json.dumps(schema)))
    else:
        request.completion.output_format.kind = pb.OutputFormat.KIND_JSON_SCHEMA
        request.completion.output_format.schema_json = json.dumps(schema)
    async with grpc.aio.insecure_channel(target) as channel:
        reply = await complete(channel, request).finish()
    assert reply.failure is not None, "it was answered"
    return reply.failure


async def assert_healthy(running: RunningBridge) -> None:
    async with (
        httpx.AsyncClient(base_url=running.url, timeout=PATIENCE) as client,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        assert (await client.get("/health")).status_code == 200
        stub: Any = health_pb2_grpc.HealthStub(channel)
        health = await stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("tool", [True, False], ids=["tool", "answer"])
@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
async def test_one_with_too_much_is_refused(
    bridge: RunningBridge, schema: Schema, tool: bool
) -> None:
    http = await over_http(bridge.url, schema, "Hello", tool=tool)
    proto = await over_grpc(bridge.target, schema, "Hello", tool=tool)
    assert (http.status, proto.status) == (400, "INVALID_ARGUMENT")
    assert http.reason == proto.reason
    assert "at most" in http.message
    assert http.message == proto.message


@pytest.mark.parametrize("kind", ["answer", pytest.param("itself", marks=LONG), "tool"])
async def test_one_that_takes_too_long_to_check_holds_up_nothing_else(
    start_bridge: Start, kind: str
) -> None:
    running = await asyncio.to_thread(start_bridge, pool_size=3)
    checker = running.bridge.engine.resources.schemas
    checker.seconds = 1.0
    schema = SLOW_ANSWER if kind == "answer" else SLOW_ITSELF
    text = sim(text=ANSWER)
    tool = kind == "tool"
    asked = [
        asyncio.ensure_future(work)
        for work in (
            over_http(running.url, schema, text, tool=tool),
            over_http(running.url, schema, text, stream=True, tool=tool),
            over_grpc(running.target, schema, text, tool=tool),
        )
    ]
    checked = 0
    while not all(one.done() for one in asked):
        # Some of these while a check runs.
        checked += checker.worker_pid is not None
        await assert_healthy(running)
    assert checked
    for failure in [await one for one in asked]:
        assert failure.status in (200, 400, "INVALID_ARGUMENT")
        assert failure.reason == "SCHEMA_TOO_EXPENSIVE"
        assert "too expensive to check" in failure.message
    assert checker.worker_pid is None


HEADER = ("-H", "content-type: application/json")


def worker_of(pid: int) -> int:
    """The process of a server that checks schemas, once it has a job."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for child in children_of(pid):
            command = subprocess.run(
                ["ps", "-ww", "-o", "args=", "-p", str(child)], capture_output=True, text=True
            ).stdout
            if "schema_worker" in command:
                return child
        time.sleep(0.01)
    raise AssertionError("no schema is checked")


@pytest.mark.parametrize("ends", ["SIGTERM", pytest.param("SIGTERM twice", marks=LONG), "SIGKILL"])
def test_the_server_can_be_ended_meanwhile(tmp_path: Path, ends: str) -> None:
    with served(tmp_path, "--demo", "--http") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        asked = subprocess.Popen(
            ["curl", "-s", "--max-time", "120", f"{url}/v1/chat/completions", "-d", "@-", *HEADER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            assert asked.stdin is not None
            asked.stdin.write(json.dumps(body(SLOW_ANSWER, sim(text=ANSWER))).encode())
            asked.stdin.close()
            worker = worker_of(running.process.pid)
            if ends == "SIGKILL":
                running.process.kill()
                assert running.end() == -signal.SIGKILL
            else:
                running.process.terminate()
                if ends == "SIGTERM twice":
                    running.wait_for("stopping")
                    running.process.terminate()
                assert running.end() == 0
            until = time.monotonic() + PATIENCE
            while alive(worker):
                assert time.monotonic() < until, os.readlink(f"/proc/{worker}/exe")
                time.sleep(0.01)
        finally:
            asked.kill()
            asked.wait(PATIENCE)
