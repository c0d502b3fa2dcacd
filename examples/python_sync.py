"""Use the bridge over gRPC, from synchronous Python: stream an answer, run a tool, cancel a call.

    python examples/python_sync.py [PROMPT] [PROMPT_FOR_THE_TOOL] [PROMPT_FOR_A_LONG_ANSWER]

BRIDGE_TARGET is the address (default 127.0.0.1:50051), BRIDGE_API_KEY the key if the server
requires one. Needs grpcio-status and the stubs, which are part of the package `claude-code-bridge`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

Metadata = tuple[tuple[str, str], ...]

SECONDS = 300
"""The deadline covers the whole answer, including the wait for a process."""

ADD = pb.Tool(
    name="add",
    description="Adds two numbers.",
    parameters_json=json.dumps(
        {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        }
    ),
)


def ask(stub: CompletionServiceStub, prompt: str, metadata: Metadata = ()) -> Iterator[str]:
    """Stream the text of an answer.

    Raises grpc.RpcError, and EOFError if the answer is incomplete.
    """
    request = pb.CompleteRequest(completion=pb.CompletionSpec(messages=[user(prompt)]))
    finished = False
    for response in stub.Complete(request, timeout=SECONDS, metadata=metadata):
        match response.event.WhichOneof("event"):
            case "text_delta":
                yield response.event.text_delta.text
            case "finished":
                finished = True
    if not finished:
        raise EOFError("incomplete answer")


def ask_with_tool(stub: CompletionServiceStub, prompt: str, metadata: Metadata = ()) -> str:
    """Run the tool as often as the model calls it, and return the last answer. Does not stream."""
    spec = pb.CompletionSpec(messages=[user(prompt)], tools=[ADD])
    spec.tool_choice.mode = pb.ToolChoice.MODE_REQUIRED
    while True:
        request = pb.CreateCompletionRequest(completion=spec)
        answer = stub.CreateCompletion(request, timeout=SECONDS, metadata=metadata)
        if answer.finish_reason != pb.FINISH_REASON_TOOL_CALLS:
            return answer.text
        # The server keeps nothing: send back what the model said, then the results of its calls.
        said = [pb.Part(text=answer.text)] if answer.text else []
        said += [pb.Part(tool_call=call) for call in answer.tool_calls]
        results = [pb.Part(tool_result=run(call)) for call in answer.tool_calls]
        spec.messages.append(pb.Message(role=pb.ROLE_ASSISTANT, parts=said))
        spec.messages.append(pb.Message(role=pb.ROLE_USER, parts=results))
        # Otherwise the model would have to call the tool again, for ever.
        spec.ClearField("tool_choice")


def cancel(
    stub: CompletionServiceStub, prompt: str, metadata: Metadata = ()
) -> tuple[str, grpc.StatusCode]:
    """Cancel a call after the first piece of text; return that and the status of the call."""
    request = pb.CompleteRequest(completion=pb.CompletionSpec(messages=[user(prompt)]))
    call = stub.Complete(request, timeout=SECONDS, metadata=metadata)
    for response in call:
        if text := response.event.text_delta.text:
            call.cancel()
            return text, call.code()
    raise EOFError("an answer without text")


def user(text: str) -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])


def run(call: pb.ToolCall) -> pb.ToolResult:
    """Run the tool; an error becomes a failed result."""
    try:
        arguments = json.loads(call.arguments_json or "{}")
        text, failed = str(arguments["a"] + arguments["b"]), False
    except (LookupError, TypeError, ValueError) as error:
        text, failed = repr(error), True
    print(f"{call.name}({call.arguments_json}) = {text}")
    return pb.ToolResult(call_id=call.id, content=[pb.Part(text=text)], is_error=failed)


def explain(error: Any) -> str:
    """Describe an error by its status and google.rpc.ErrorInfo, whose reason never changes."""
    text = f"{error.code().name}: {error.details()}"
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            text += f" ({info.reason}, retryable: {info.metadata['retryable']})"
    return text


def main(
    prompt: str = "Why is the sky blue?",
    sum_prompt: str = "What is 19 + 23?",
    long_prompt: str = "Tell a long story.",
) -> None:
    """Stream an answer, run a tool, and cancel a call."""
    key = os.environ.get("BRIDGE_API_KEY")
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    with grpc.insecure_channel(os.environ.get("BRIDGE_TARGET", "127.0.0.1:50051")) as channel:
        stub = CompletionServiceStub(channel)
        try:
            for text in ask(stub, prompt, metadata):
                print(text, end="", flush=True)
            print()
            print(ask_with_tool(stub, sum_prompt, metadata))
            text, code = cancel(stub, long_prompt, metadata)
            print(f"{text}… {code.name}")
        except grpc.RpcError as error:
            sys.exit(explain(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
