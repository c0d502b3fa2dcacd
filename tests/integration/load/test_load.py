"""More callers than slots: in order, in fairness, and with a true hint when to come again."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from bridge.core.pool.policy import PoolLimits
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.support.front_ends import KINDS, ApiCall, Apis, both_apis
from tests.support.harness import PATIENCE, RunningEngine, running_engine, sim, user
from tests.support.replies import Failure

STALL = 0.5


@dataclass(frozen=True)
class Stage:
    """An engine of one turn at a time and a queue of two, with both APIs."""

    engine: RunningEngine
    apis: Apis

    async def holding(self) -> ApiCall:
        """Take the only turn."""
        mark = uuid.uuid4().hex
        caller = self.apis.call("stream", f"{mark} {sim(hang=True)}")
        await self.engine.simulator.ledger.wait_for_async(
            lambda found: any(exchange.contains(mark) for exchange in found), PATIENCE
        )
        return caller

    async def waiting(self, count: int) -> None:
        """Wait until so many requests are in the queue."""
        pool = self.engine.engine.pool
        async with asyncio.timeout(PATIENCE):
            while pool.waiting != count:
                await pool.changed()


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running_engine(tmp_path_factory.mktemp("load"), PoolLimits(1, 2, 0), queue_size=2)
        )
        apis = await stack.enter_async_context(both_apis(engine.engine, stall=STALL))
        yield Stage(engine, apis)


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("whole", 429, "queue_full"),
        ("stream", 429, "queue_full"),
        ("grpc", "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    ],
    ids=["whole", "stream", "grpc"],
)
async def test_a_request_beyond_the_queue_is_refused_with_the_time_of_its_turn(
    stage: Stage, kind: str, status: int | str, reason: str
) -> None:
    # As if turns had taken 40 seconds each.
    pace = stage.engine.engine.pool._turn_times
    for _ in range(32):
        pace.note(40.0)
    holding = await stage.holding()
    queued = [asyncio.ensure_future(stage.apis.ask("whole", sim(text=f"q{n}"))) for n in range(2)]
    await stage.waiting(2)
    failure = await stage.apis.ask(kind, "One too many.")
    assert isinstance(failure, Failure)
    assert (failure.status, failure.reason) == (status, reason)
    # The turn that runs, and the two before it in the queue.
    assert failure.retry_after == 3 * 40.0
    await holding.leave()
    assert await asyncio.gather(*queued) == ["q0", "q1"]


async def test_waiting_requests_are_served_in_order(stage: Stage) -> None:
    holding = await stage.holding()
    served: list[str] = []

    async def ask(kind: str, text: str) -> None:
        served.append(str(await stage.apis.ask(kind, sim(text=text))))

    tasks = []
    for count, (kind, text) in enumerate([("grpc", "one"), ("whole", "two")], start=1):
        tasks.append(asyncio.ensure_future(ask(kind, text)))
        await stage.waiting(count)
    await holding.leave()
    await asyncio.gather(*tasks)
    assert served == ["one", "two"]


async def test_a_key_with_many_requests_does_not_delay_one_with_few(stage: Stage) -> None:
    holding = await stage.holding()
    served: list[str] = []

    async def ask(caller: str) -> None:
        await stage.engine.ask(user(sim(text=caller)), caller=caller)
        served.append(caller)

    tasks = []
    for count, caller in enumerate(("busy", "busy", "rare"), start=1):
        tasks.append(asyncio.ensure_future(ask(caller)))
        await stage.waiting(count)
    await holding.leave()
    await asyncio.gather(*tasks)
    assert served == ["busy", "rare", "busy"]


async def dropped(stage: Stage, mark: str) -> None:
    """Wait until the answer to a reader that does not read was given up."""
    await stage.engine.simulator.ledger.wait_for_async(
        lambda found: [e.ended for e in found if e.contains(mark)] == ["client_closed"], PATIENCE
    )
    assert await stage.apis.ask("whole", sim(text="next")) == "next"


async def test_a_reader_over_http_that_stops_reading_is_dropped(stage: Stage) -> None:
    mark = uuid.uuid4().hex
    body = {
        "stream": True,
        "messages": [{"role": "user", "content": mark + sim(endless=True, delay_ms=1)}],
    }
    content = json.dumps(body).encode()
    host, port = stage.apis.url.removeprefix("http://").split(":")
    with closing(socket.socket()) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(reader.connect, (host, int(port)))
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(content)}\r\n"
        head += "host: 127.0.0.1\r\n"
        reader.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + content)
        await dropped(stage, mark)


async def test_a_reader_over_grpc_that_stops_reading_is_dropped(stage: Stage) -> None:
    mark = uuid.uuid4().hex
    large = {"name": "add", "input": {"text": "x" * 400_000}, "fragment": 4_000}
    much = sim(tools=[large], hang_after=95)
    # Without a guess at the line's speed, by which the window would grow.
    options = [("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(stage.apis.target, options) as channel:
        message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=mark + much)])
        call = pb_grpc.CompletionServiceStub(channel).Complete(
            pb.CompleteRequest(
                completion=pb.CompletionSpec(messages=[message], tools=[pb.Tool(name="add")])
            )
        )
        # It has the head of the reply, and reads nothing more.
        await call.read()
        await dropped(stage, mark)
        call.cancel()


async def test_a_queue_that_every_caller_left_delays_no_request(tmp_path: Path) -> None:
    async with (
        running_engine(tmp_path, PoolLimits(1, 1, 0), queue_size=20) as engine,
        both_apis(engine.engine) as apis,
    ):
        stage = Stage(engine, apis)
        holding = await stage.holding()
        queued = [apis.call(kind, "Hello?") for kind in KINDS for _ in range(4)]
        await stage.waiting(len(queued))
        await asyncio.gather(*(caller.leave() for caller in queued))
        await stage.waiting(0)
        await holding.leave()
        assert await apis.ask("grpc", sim(text="next")) == "next"
