"""Calls that are cut short, in every phase, through the real CLI: nothing is left behind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

import grpc
import pytest

from bridge.simulator import Exchange
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from bridge.v1 import pool_pb2, pool_pb2_grpc
from tests.support.grpc.client import Talk
from tests.support.harness import PATIENCE, RunningBridge, sim

Start = Callable[..., RunningBridge]
Call = grpc.aio.UnaryStreamCall[Any, pb.CompleteResponse]
ADD = pb.Tool(name="add")


@pytest.fixture
async def single(start_bridge: Start) -> AsyncGenerator[RunningBridge, None]:
    """A bridge that answers one request at a time; at the end it must be as good as new."""
    running = start_bridge(pool_size=1, bridge_spares=0, bridge_max_processes=2)
    yield running
    await asyncio.to_thread(running.wait_until_settled)
    async with grpc.aio.insecure_channel(running.target) as channel:
        assert await answer(complete(channel, sim(text="next"))) == "next"
    await asyncio.to_thread(running.wait_until_settled)
    assert sum(running.bridge.engine.pool.counts().values()) <= 2


@pytest.fixture
async def channel(single: RunningBridge) -> AsyncGenerator[grpc.aio.Channel, None]:
    async with grpc.aio.insecure_channel(single.target) as channel:
        yield channel


def complete(
    channel: grpc.aio.Channel, *texts: str, system: str = "", timeout: float = PATIENCE
) -> Call:
    """Ask; the messages are the user's and the model's in turn."""
    roles = (pb.ROLE_USER, pb.ROLE_ASSISTANT)
    messages = [
        pb.Message(role=roles[index % 2], parts=[pb.Part(text=text)])
        for index, text in enumerate(texts)
    ]
    request = pb.CompleteRequest(completion=pb.CompletionSpec(messages=messages, system=system))
    return pb_grpc.CompletionServiceStub(channel).Complete(request, timeout=timeout)


async def answer(call: Call) -> str:
    text = []
    async for response in call:
        text.append(response.event.text_delta.text)
        if response.event.WhichOneof("event") == "finished":
            return "".join(text)
    raise EOFError


async def until(call: Call, kind: str) -> None:
    while True:
        response = await asyncio.wait_for(call.read(), PATIENCE)
        assert isinstance(response, pb.CompleteResponse)
        if response.event.WhichOneof("event") == kind:
            return


async def code(call: Any) -> grpc.StatusCode:
    status = await asyncio.wait_for(call.code(), PATIENCE)
    assert isinstance(status, grpc.StatusCode)
    return status


def mark() -> str:
    return uuid.uuid4().hex


async def upstream(
    bridge: RunningBridge, marker: str, met: Callable[[Exchange], bool] = lambda _: True
) -> Exchange:
    """Wait until the last request with this marker that came to the model meets the condition."""

    def last_meets(exchanges: Sequence[Exchange]) -> bool:
        found = [exchange for exchange in exchanges if exchange.contains(marker)]
        return bool(found) and met(found[-1])

    found = await bridge.simulator.ledger.wait_for_async(last_meets, PATIENCE)
    return [exchange for exchange in found if exchange.contains(marker)][-1]


async def closed_by_client(bridge: RunningBridge, marker: str) -> None:
    assert (await upstream(bridge, marker, lambda e: e.ended is not None)).ended == "client_closed"


async def waiting(bridge: RunningBridge, count: int) -> None:
    """Wait until so many requests are in the queue."""
    pool = bridge.bridge.engine.pool

    async def wait() -> None:
        # Not wait_for: it would begin to wait in a task, after what is waited for.
        async with asyncio.timeout(PATIENCE):
            while pool.waiting != count:
                await pool.changed()

    await asyncio.to_thread(bridge.call, wait)


# A client that cancels, in each phase: faults/test_client_leaves.py. A client's deadline is
# counted on both sides, so it is another thing.


async def ends_at_its_deadline(
    channel: grpc.aio.Channel, words: str, reached: Callable[[Call], Coroutine[Any, Any, object]]
) -> None:
    """Ask with a deadline that comes after something was reached, however busy the machine is."""
    for seconds in (1, 8, 64):
        call = complete(channel, words, timeout=seconds)
        reaching = asyncio.ensure_future(reached(call))
        over = asyncio.ensure_future(code(call))
        await asyncio.wait((reaching, over), return_when=asyncio.FIRST_COMPLETED)
        assert await over is grpc.StatusCode.DEADLINE_EXCEEDED
        if reaching.done() and reaching.exception() is None:
            return
        reaching.cancel()
    raise AssertionError("it was never reached")


async def test_the_deadline_while_queued(single: RunningBridge, channel: grpc.aio.Channel) -> None:
    first, second = mark(), mark()
    running = complete(channel, f"{first} " + sim(hang=True))
    await upstream(single, first)
    await ends_at_its_deadline(channel, second, lambda _: waiting(single, 1))
    await waiting(single, 0)
    running.cancel()
    await closed_by_client(single, first)
    assert single.simulator.ledger.exchanges(containing=second) == ()


async def test_the_deadline_before_the_first_token(
    single: RunningBridge, channel: grpc.aio.Channel
) -> None:
    marker = mark()
    words = f"{marker} " + sim(hang=True)
    await ends_at_its_deadline(channel, words, lambda _: upstream(single, marker))
    await closed_by_client(single, marker)


async def test_the_deadline_mid_stream(single: RunningBridge, channel: grpc.aio.Channel) -> None:
    marker = mark()
    words = f"{marker} " + sim(endless=True, delay_ms=5)
    await ends_at_its_deadline(channel, words, lambda call: until(call, "text_delta"))
    await closed_by_client(single, marker)


async def test_a_vanished_client(single: RunningBridge) -> None:
    marker = mark()
    async with grpc.aio.insecure_channel(single.target) as channel:
        await until(complete(channel, f"{marker} " + sim(endless=True, delay_ms=5)), "text_delta")
    await closed_by_client(single, marker)


async def test_converse_mid_stream(single: RunningBridge, channel: grpc.aio.Channel) -> None:
    marker = mark()
    talk = await Talk(channel).open()
    await talk.say(f"{marker} " + sim(endless=True, delay_ms=5))
    await talk.until("text_delta")
    talk.call.cancel()
    await closed_by_client(single, marker)


async def test_converse_while_results_are_due(
    single: RunningBridge, channel: grpc.aio.Channel
) -> None:
    talk = await Talk(channel).open(tools=[ADD])
    turn = await talk.ask(f"{mark()} " + sim(tools=[{"name": "add", "input": {}}]))
    assert turn.finish == "tool_calls"
    # The session is parked: it makes way for others as it is, and the results can still come.
    assert await answer(complete(channel, sim(text="other"))) == "other"
    talk.call.cancel()
    assert await code(talk.call) is grpc.StatusCode.CANCELLED


async def test_a_turn_of_converse_is_cancelled_and_the_next_one_answered(
    single: RunningBridge, channel: grpc.aio.Channel
) -> None:
    marker = mark()
    talk = await Talk(channel).open()
    await talk.say(f"{marker} " + sim(endless=True, delay_ms=5))
    await talk.until("text_delta")
    await talk.cancel_turn()
    end = await talk.until("finished")
    assert end.event.finished.reason == pb.FINISH_REASON_CANCELLED
    await closed_by_client(single, marker)
    assert (await talk.ask(sim(text="Better."))).text == "Better."
    # The half answer is part of what the model sees.
    assert [role for role in (await upstream(single, marker)).roles if role != "system"] == [
        "user",
        "assistant",
        "user",
    ]
    assert await talk.end() is grpc.StatusCode.OK


@pytest.mark.parametrize("queued", [True, False], ids=["queued", "with the model"])
async def test_a_turn_that_is_cancelled_before_its_first_event_starts_and_ends(
    single: RunningBridge, channel: grpc.aio.Channel, queued: bool
) -> None:
    first, second = mark(), mark()
    running = complete(channel, f"{first} " + sim(hang=True))
    await upstream(single, first)
    talk = await Talk(channel).open()
    await talk.say(f"{second} " + sim(hang=True))
    await waiting(single, 1)
    if not queued:
        running.cancel()
        await upstream(single, second)
    await talk.cancel_turn()
    turn = await talk.turn()
    assert turn.events == ["started", "finished"]
    assert turn.request_id
    assert turn.finish == "cancelled"
    if queued:
        await waiting(single, 0)
        assert single.simulator.ledger.exchanges(containing=second) == ()
        running.cancel()
    else:
        await closed_by_client(single, second)
    await closed_by_client(single, first)
    assert (await talk.ask(sim(text="Better."))).text == "Better."
    assert await talk.end() is grpc.StatusCode.OK


async def test_converse_continues_in_its_session_and_is_replayed_when_that_is_gone(
    single: RunningBridge, channel: grpc.aio.Channel
) -> None:
    marker = mark()

    def sessions() -> dict[str, int]:
        return dict(single.bridge.service.pool_state().totals.sessions)

    talk = await Talk(channel).open(tools=[ADD])
    turn = await talk.ask(f"{marker} " + sim(tools=[{"name": "add", "input": {"a": 1}}]))
    (call,) = turn.calls
    await talk.give(**{call.id: "two"})
    await talk.turn()
    await talk.ask("Go on. " + sim(text="On."))
    assert sessions()["continued"] == 2
    # Two conversations of others, on the two processes there are.
    for other in ("a", "b"):
        await answer(complete(channel, f"{mark()} " + sim(text=other), system=other))
    assert (await talk.ask("Still there? " + sim(text="Yes."))).text == "Yes."
    assert sessions()["continued"] == 2
    last = await upstream(single, marker)
    assert [role for role in last.roles if role != "system"] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert last.contains("two")
    assert await talk.end() is grpc.StatusCode.OK


async def test_a_turn_of_converse_that_fails_upstream_leaves_the_call_open(
    single: RunningBridge, channel: grpc.aio.Channel
) -> None:
    talk = await Talk(channel).open()
    await talk.ask(f"{mark()} " + sim(text="Fine."))
    await talk.say(sim(error={"status": 400, "message": "bad thing"}))
    failure = (await talk.outcome()).failure
    assert failure is not None
    assert failure.status == "INVALID_ARGUMENT"
    assert (await talk.ask(f"{mark()} " + sim(text="Fine again."))).text == "Fine again."
    assert await talk.end() is grpc.StatusCode.OK


async def test_the_pool_is_watched(single: RunningBridge, channel: grpc.aio.Channel) -> None:
    stub = pool_pb2_grpc.PoolServiceStub(channel)
    watch = stub.WatchPool(pool_pb2.WatchPoolRequest())

    async def until_running(count: int) -> pool_pb2.Pool:
        while True:
            response = await asyncio.wait_for(watch.read(), PATIENCE)
            assert isinstance(response, pool_pb2.WatchPoolResponse)
            if response.pool.processes.running == count:
                return response.pool

    await until_running(0)
    marker = mark()
    call = complete(channel, f"{marker} " + sim(hang=True))
    pool = await until_running(1)
    assert (pool.status, pool.pool_size, pool.max_processes) == (pool_pb2.Pool.STATUS_OK, 1, 2)
    assert pool.simulated
    assert pool.cli_version
    await upstream(single, marker)
    call.cancel()
    await until_running(0)
    await asyncio.to_thread(single.wait_until_settled)
    totals = (await stub.GetPool(pool_pb2.GetPoolRequest())).pool.totals
    assert (totals.answered, totals.left) == (0, 1)
    watch.cancel()
