"""Send a prompt to the bridge over gRPC, from synchronous Python.

    python examples/python_sync.py "Why is the sky blue?" [HOST:PORT]

BRIDGE_API_KEY is the key if the server requires one. Needs grpcio and the stubs, which are part of
the package `claude-code-bridge`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub


def ask(channel: grpc.Channel, prompt: str, *, model: str = "", api_key: str = "") -> Iterator[str]:
    """Stream the text of an answer.

    Raises grpc.RpcError, and EOFError if the answer is incomplete.
    """
    request = pb.CompleteRequest(
        completion=pb.CompletionSpec(
            model=model,
            messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=prompt)])],
        )
    )
    metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
    # The deadline covers the whole answer, including the wait for a process.
    stub = CompletionServiceStub(channel)
    for response in stub.Complete(request, timeout=300, metadata=metadata):
        match response.event.WhichOneof("event"):
            case "text_delta":
                yield response.event.text_delta.text
            case "finished":
                return
    raise EOFError("incomplete answer")


def main(prompt: str, target: str = "127.0.0.1:50051") -> None:
    """Print the answer to one prompt."""
    with grpc.insecure_channel(target) as channel:
        for text in ask(channel, prompt, api_key=os.environ.get("BRIDGE_API_KEY", "")):
            print(text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
