"""Many calls at once, through the real CLI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.support.grpc.client import Talk
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim

Start = Callable[..., RunningBridge]

STREAMS = 64


def request(text: str) -> pb.CompleteRequest:
    return pb.CompleteRequest(
        completion=pb.CompletionSpec(
            messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])], system="Be brief."
        )
    )


async def ask(channel: grpc.aio.Channel, text: str) -> str:
    """The text of an answer that ends as it should."""
    answer, finished = "", False
    async for response in pb_grpc.CompletionServiceStub(channel).Complete(request(text)):
        assert not finished
        answer += response.event.text_delta.text
        finished = response.event.WhichOneof("event") == "finished"
    assert finished
    return answer


@LONG
async def test_many_streams_on_a_small_pool_all_end_right(start_bridge: Start) -> None:
    bridge = start_bridge(
        pool_size=4, bridge_spares=0, bridge_queue_size=STREAMS, claude_timeout=10 * PATIENCE
    )
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        prompts = [sim(text=f"The answer {number}.") for number in range(STREAMS)]
        answers = await asyncio.gather(*(ask(channel, prompt) for prompt in prompts))
    assert answers == [f"The answer {number}." for number in range(STREAMS)]
    await asyncio.to_thread(bridge.wait_until_settled)
    totals = bridge.bridge.service.pool_state().totals
    assert (totals.answered, totals.failed, totals.left) == (STREAMS, 0, 0)


async def test_conversations_between_turns_hold_no_process(start_bridge: Start) -> None:
    bridge = start_bridge(pool_size=1, bridge_spares=0, bridge_max_processes=2)
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        talks = [await Talk(channel).open(system="Be brief.") for _ in range(6)]
        for turn in ("one", "two"):
            for number, talk in enumerate(talks):
                text = f"{turn} {number}"
                assert (await talk.ask(sim(text=text))).text == text
        for talk in talks:
            assert await talk.end() is grpc.StatusCode.OK


async def test_a_slow_reader_does_not_slow_the_others(start_bridge: Start) -> None:
    bridge = start_bridge(pool_size=2)
    tokens = 20_000
    # Each on a connection of its own: one connection has one window for all its streams.
    async with (
        grpc.aio.insecure_channel(
            bridge.target, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as slow,
        grpc.aio.insecure_channel(
            bridge.target, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as quick,
    ):
        unread = pb_grpc.CompletionServiceStub(slow).Complete(request(sim(tokens=tokens)))
        assert isinstance(await unread.read(), pb.CompleteResponse)
        for number in range(5):
            assert await ask(quick, sim(text=f"quick {number}")) == f"quick {number}"
        # And the slow one has lost nothing.
        words = ""
        while isinstance(response := await unread.read(), pb.CompleteResponse):
            words += response.event.text_delta.text
        assert await unread.code() is grpc.StatusCode.OK
        assert words.split() == [f"w{number}" for number in range(tokens)]
