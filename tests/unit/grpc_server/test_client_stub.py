"""How a caller's own tests can fake the bridge: the sync example on a fake channel."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc_testing
import pytest

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from examples.python_sync import ask

SERVICE = pb.DESCRIPTOR.services_by_name["CompletionService"]
COMPLETE = SERVICE.methods_by_name["Complete"]


def answer(channel: grpc.Channel) -> str:
    return "".join(ask(CompletionServiceStub(channel), "Hello?"))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def channel() -> grpc_testing.Channel:
    return grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())


def test_a_caller_reads_an_answer(channel: grpc_testing.Channel, pool: ThreadPoolExecutor) -> None:
    asking = pool.submit(answer, channel)
    _, request, call = channel.take_unary_stream(COMPLETE)
    assert request.completion.messages[0].parts[0].text == "Hello?"
    call.send_initial_metadata(())
    call.send_response(
        pb.CompleteResponse(event=pb.CompletionEvent(started=pb.Started(model="claude-opus-4")))
    )
    call.send_response(
        pb.CompleteResponse(event=pb.CompletionEvent(text_delta=pb.TextDelta(text="Hel")))
    )
    call.send_response(
        pb.CompleteResponse(event=pb.CompletionEvent(text_delta=pb.TextDelta(text="lo")))
    )
    call.send_response(pb.CompleteResponse(event=pb.CompletionEvent(finished=pb.Finished())))
    call.terminate((), grpc.StatusCode.OK, "")
    assert asking.result(20) == "Hello"


def test_a_caller_sees_the_status(channel: grpc_testing.Channel, pool: ThreadPoolExecutor) -> None:
    asking = pool.submit(answer, channel)
    _, _, call = channel.take_unary_stream(COMPLETE)
    call.send_initial_metadata(())
    call.terminate((), grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many wait.")
    with pytest.raises(grpc.RpcError) as caught:
        asking.result(20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_cut_answer_is_not_taken_for_a_whole_one(
    channel: grpc_testing.Channel, pool: ThreadPoolExecutor
) -> None:
    asking = pool.submit(answer, channel)
    _, _, call = channel.take_unary_stream(COMPLETE)
    call.send_initial_metadata(())
    call.send_response(
        pb.CompleteResponse(event=pb.CompletionEvent(text_delta=pb.TextDelta(text="Hel")))
    )
    call.terminate((), grpc.StatusCode.OK, "")
    with pytest.raises(EOFError):
        asking.result(20)
