"""A model may think for long without a word, while the client makes sure of the connection."""

from __future__ import annotations

import grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.harness import PATIENCE, RunningBridge, sim

EAGER = [
    ("grpc.keepalive_time_ms", 200),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


async def test_a_client_that_pings_through_a_silence_is_not_sent_away(
    bridge: RunningBridge,
) -> None:
    silent = sim(first_delay_ms=3_000, text="Here I am.")
    request = pb.CompleteRequest(
        completion=pb.CompletionSpec(
            messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=silent)])]
        )
    )
    async with grpc.aio.insecure_channel(bridge.target, options=EAGER) as channel:
        call = CompletionServiceStub(channel).Complete(request, timeout=PATIENCE)
        responses = [response async for response in call]
    assert "".join(response.event.text_delta.text for response in responses) == "Here I am."
