"""Ask the bridge over gRPC from ordinary, synchronous Python.

    python examples/python_sync.py "Why is the sky blue?" [HOST:PORT]

It needs grpcio and the stubs, which the package `claude-code-bridge` brings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub


def ask(channel: grpc.Channel, prompt: str, *, model: str = "") -> Iterator[str]:
    """Give the text of an answer, piece by piece.

    Raises grpc.RpcError, and EOFError where the answer was cut.
    """
    request = pb.CompleteRequest(
        model=model,
        messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=prompt)])],
    )
    # The deadline covers the whole answer, waiting for a free process included.
    for response in CompletionServiceStub(channel).Complete(request, timeout=300):
        match response.WhichOneof("event"):
            case "text_delta":
                yield response.text_delta.text
            case "finished":
                return
    raise EOFError("the answer was cut")


def main(prompt: str, target: str = "127.0.0.1:50051") -> None:
    """Print the answer to one prompt."""
    with grpc.insecure_channel(target) as channel:
        for text in ask(channel, prompt):
            print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
