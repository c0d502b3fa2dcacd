"""An answer and its id are the same at every API: asked for over one, had over another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import httpx
import pytest

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.integration.parity.scenarios import new_marker
from tests.support.grpc.client import GrpcCall, user
from tests.support.harness import PATIENCE, RunningBridge, sim
from tests.support.http.response_events import check_response, check_stream
from tests.support.replies import Failure
from tests.support.waiting import soon

ENDLESS = sim(endless=True, delay_ms=20)
TOKENS = sim(tokens=30, delay_ms=5)
WORDS = "".join(f"w{number} " for number in range(30))
BODIES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/responses": lambda text: {"input": text},
    "/v1/messages": lambda text: {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 1000,
    },
}


@pytest.fixture
async def http(bridge: RunningBridge) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=bridge.url, timeout=PATIENCE, trust_env=False) as client:
        yield client


@pytest.fixture
async def stub(bridge: RunningBridge) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        yield CompletionServiceStub(channel)


def asked(text: str, **fields: Any) -> pb.CompleteRequest:
    spec = pb.CompletionSpec(model="opus", messages=[user(text)])
    return pb.CompleteRequest(completion=spec, **fields)


async def begin(http: httpx.AsyncClient, text: str, id: str = "", **fields: Any) -> str:
    """Start a response in the background; return its id without the prefix."""
    body = {"model": "opus", "input": text, "background": True, **fields}
    headers = {"Idempotency-Key": id} if id else {}
    reply = await http.post("/v1/responses", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    return str(check_response(reply.json())["id"]).removeprefix("resp_")


def attach(stub: Any, id: str, after: int = 0) -> GrpcCall:
    request = pb.AttachCompletionRequest(request_id=id, after_sequence_number=after)
    return GrpcCall(stub.AttachCompletion(request, timeout=PATIENCE))


async def text_begins(call: GrpcCall) -> str:
    """Read up to the first of the text; return the id of the request without its prefix."""
    while not call.reply.text:
        assert await call.read(), call.reply.failure
    return call.reply.request_id.removeprefix("req_")


async def failure(call: GrpcCall) -> Failure:
    reply = await call.turn()
    assert reply.failure is not None
    return reply.failure


async def test_what_was_started_over_http_is_attached_to_over_grpc(
    bridge: RunningBridge, http: httpx.AsyncClient, stub: Any
) -> None:
    mark = new_marker()
    hex = await begin(http, f"{mark} {TOKENS}", mark)

    by_server_id, by_own = await attach(stub, f"req_{hex}").turn(), await attach(stub, mark).turn()
    assert by_server_id.text == by_own.text == WORDS
    assert by_server_id.request_id == by_own.request_id == f"req_{hex}"
    # The last of the text, and the end.
    rest = await attach(stub, mark, by_own.sequence_number - 2).turn()
    assert (rest.text, rest.finish) == ("w29 ", "stop")
    assert len(bridge.simulator.ledger.exchanges(containing=mark)) == 1


async def test_what_was_started_over_grpc_is_streamed_over_http(
    bridge: RunningBridge, http: httpx.AsyncClient, stub: Any
) -> None:
    mark = new_marker()
    call = GrpcCall(stub.Complete(asked(f"{mark} {TOKENS}", request_id=mark, detached=True)))
    hex = await text_begins(call)
    await call.leave()

    reply = await http.get(f"/v1/responses/resp_{hex}", params={"stream": True})

    last = check_stream(reply.content).last
    assert last["output"][0]["content"][0]["text"] == WORDS
    assert (last["id"], last["status"]) == (f"resp_{hex}", "completed")
    assert len(bridge.simulator.ledger.exchanges(containing=mark)) == 1


async def test_a_deadline_ends_the_call_and_not_the_answer(
    bridge: RunningBridge, stub: Any
) -> None:
    mark = new_marker()
    prompt = f"{mark} {sim(tokens=30, delay_ms=50)}"
    request = asked(prompt, request_id=mark, detached=True)
    # It takes longer than this, however fast the machine is; on a slow one it may not have begun.
    call = GrpcCall(stub.Complete(request, timeout=1))
    assert (await failure(call)).status == "DEADLINE_EXCEEDED"

    again = await GrpcCall(stub.Complete(request, timeout=PATIENCE)).turn()

    assert (again.text, again.finish) == (WORDS, "stop")
    assert len(bridge.simulator.ledger.exchanges(containing=mark)) == 1


async def test_each_api_cancels_what_was_started_over_the_other(
    bridge: RunningBridge, http: httpx.AsyncClient, stub: Any
) -> None:
    call = GrpcCall(stub.Complete(asked(ENDLESS, detached=True)))
    hex = await text_begins(call)
    cancelled = await http.post(f"/v1/responses/resp_{hex}/cancel")
    assert check_response(cancelled.json())["status"] == "cancelled"
    failed = await failure(call)
    assert (failed.status, failed.reason) == ("CANCELLED", "REQUEST_CANCELLED")

    hex = await begin(http, ENDLESS)
    attached = attach(stub, f"req_{hex}")
    await text_begins(attached)
    await soon(stub.CancelCompletion(pb.CancelCompletionRequest(request_id=f"req_{hex}")))
    assert (await failure(attached)).reason == "REQUEST_CANCELLED"
    response = check_response((await http.get(f"/v1/responses/resp_{hex}")).json())
    assert response["status"] == "cancelled"
    await asyncio.to_thread(bridge.wait_until_settled)


async def test_a_drain_lets_an_answer_and_its_readers_finish(
    start_bridge: Callable[..., RunningBridge],
) -> None:
    running = await asyncio.to_thread(start_bridge, pool_size=1, bridge_spares=0)
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub: Any = CompletionServiceStub(channel)
        request = asked(sim(tokens=30, delay_ms=30), detached=True)
        call = GrpcCall(stub.Complete(request, timeout=PATIENCE))
        hex = await text_begins(call)
        await call.leave()
        attached = attach(stub, f"req_{hex}")
        await text_begins(attached)
        draining = asyncio.create_task(
            asyncio.to_thread(running.call, lambda: running.bridge.drain(PATIENCE))
        )
        reply = await attached.turn()
        assert (reply.text, reply.finish) == (WORDS, "stop")
        await soon(draining)


@pytest.mark.parametrize("url", BODIES)
async def test_a_stream_over_http_is_cancelled_over_grpc(
    http: httpx.AsyncClient, stub: Any, url: str
) -> None:
    mark = new_marker()
    body = {"model": "opus", "stream": True, **BODIES[url](ENDLESS)}
    async with http.stream("POST", url, json=body, headers={"Idempotency-Key": mark}) as stream:
        lines = stream.aiter_lines()
        while "w1 " not in await soon(anext(lines)):
            pass
        await soon(stub.CancelCompletion(pb.CancelCompletionRequest(request_id=mark)))
        rest = "".join([line async for line in lines])
    assert "cancelled by its id" in rest


async def test_an_error_of_the_answer_is_the_same_at_each_api(
    http: httpx.AsyncClient, stub: Any
) -> None:
    hex = await begin(http, sim(tokens=5, error_after=2))
    call = attach(stub, f"req_{hex}")
    failed = await failure(call)
    assert (call.reply.text, failed.reason) == ("w0 w1 ", "OVERLOADED")
    response = check_response((await http.get(f"/v1/responses/resp_{hex}")).json())
    assert response["status"] == "failed"
    assert failed.message in response["error"]["message"]


@pytest.mark.parametrize("first", ["http", "grpc"])
@pytest.mark.parametrize("detached", [False, True])
async def test_an_id_is_used_once_whichever_api_it_comes_by(
    bridge: RunningBridge, http: httpx.AsyncClient, stub: Any, first: str, detached: bool
) -> None:
    mark = new_marker()
    text = f"{mark} {sim(text='Once.')}"

    async def over_http() -> str:
        body = {"model": "opus", "input": text, "background": detached}
        reply = await http.post("/v1/responses", json=body, headers={"Idempotency-Key": mark})
        if reply.status_code == 200:
            return ""
        assert reply.status_code == 409
        return str(reply.json()["error"]["code"]).upper()

    async def over_grpc() -> str:
        request = asked(text, request_id=mark, detached=detached)
        reply = await GrpcCall(stub.Complete(request, timeout=PATIENCE)).turn()
        if reply.failure is None:
            return ""
        assert reply.failure.status == "ALREADY_EXISTS"
        return reply.failure.reason

    ways = (over_http, over_grpc) if first == "http" else (over_grpc, over_http)
    assert await ways[0]() == ""
    assert await ways[1]() == "REQUEST_ID_REUSED"
    if detached:
        # A response in the background may have been replied before the model was asked.
        assert (await attach(stub, mark).turn()).text == "Once."
    assert len(bridge.simulator.ledger.exchanges(containing=mark)) == 1


async def test_an_error_of_an_id_has_the_same_words(http: httpx.AsyncClient, stub: Any) -> None:
    mark = new_marker()
    assert (await GrpcCall(stub.Complete(asked("Once.", request_id=mark))).turn()).text
    body = {"model": "opus", **BODIES["/v1/chat/completions"]("Another.")}
    for id, reason in (("not an id", "INVALID_VALUE"), (mark, "REQUEST_ID_REUSED")):
        headers = {"Idempotency-Key": id}
        error = (await http.post("/v1/chat/completions", json=body, headers=headers)).json()[
            "error"
        ]
        failed = await failure(GrpcCall(stub.Complete(asked("Another.", request_id=id))))
        assert failed.reason == error["code"].upper() == reason
        assert failed.message.replace("request_id", "Idempotency-Key") == error["message"]
        assert (error["param"], failed.field) == ("Idempotency-Key", "request_id")
