"""Use the bridge over gRPC, from asynchronous Python: stream, hold a conversation, cancel.

    python examples/python_async.py [PROMPT] [PROMPT_FOR_THE_TOOL] [PROMPT_FOR_A_LONG_ANSWER]

BRIDGE_TARGET is the address (default 127.0.0.1:50051), BRIDGE_API_KEY the key if the server
requires one. Needs grpcio-status and the stubs, which are part of the package `claude-code-bridge`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc
from google.protobuf import any_pb2
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

Conversation: TypeAlias = grpc.aio.StreamStreamCall[pb.ConverseRequest, pb.ConverseResponse]

SECONDS = 300
"""The deadline covers a whole call, including the wait for a process."""

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


class TurnFailedError(Exception):
    """A turn failed; the conversation can go on."""


class Client:
    """Its calls raise grpc.aio.AioRpcError, and EOFError if an answer is incomplete."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str = "") -> None:
        self._stub = CompletionServiceStub(channel)
        metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._options: dict[str, Any] = {"metadata": metadata, "timeout": SECONDS}

    async def ask(self, prompt: str) -> AsyncIterator[str]:
        """Stream the text of an answer."""
        finished = False
        async for response in self._stub.Complete(request(prompt), **self._options):
            match response.event.WhichOneof("event"):
                case "text_delta":
                    yield response.event.text_delta.text
                case "finished":
                    finished = True
        if not finished:
            raise EOFError("incomplete answer")

    async def converse(self, *prompts: str) -> None:
        """Send prompts one after the other on one call, which keeps the history; print the answers.

        Raises TurnFailedError.
        """
        call = self._stub.Converse(**self._options)
        spec = pb.CompletionSpec(system="Answer in one sentence.", tools=[ADD])
        await call.write(pb.ConverseRequest(open=pb.OpenConversation(completion=spec)))
        try:
            for prompt in prompts:
                async for text in take_turn(call, prompt):
                    print(text, end="", flush=True)
                print()
            await call.done_writing()
            async for _ in call:
                pass  # until the status of the call
        finally:
            call.cancel()  # no effect if it has ended

    async def cancel(self, prompt: str) -> tuple[str, grpc.StatusCode]:
        """Cancel a call after the first piece of text; return that and the status of the call.

        A call is also cancelled when the task that reads it is.
        """
        call = self._stub.Complete(request(prompt), **self._options)
        async for response in call:
            if text := response.event.text_delta.text:
                call.cancel()
                return text, await call.code()
        raise EOFError("an answer without text")


async def take_turn(call: Conversation, prompt: str) -> AsyncIterator[str]:
    """Stream the answer to one prompt of a conversation, running the tool if the model calls it."""
    # The settings of this turn only: the results of a required call must not require another.
    required = pb.TurnOverrides(tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_REQUIRED))
    message = pb.UserMessage(parts=[pb.Part(text=prompt)], overrides=required)
    await call.write(pb.ConverseRequest(message=message))
    calls: list[pb.ToolCall] = []
    async for response in call:
        if response.HasField("turn_failed"):
            failed = response.turn_failed
            raise TurnFailedError(failed.message + reason(failed.details))
        event = response.event
        match event.WhichOneof("event"):
            case "text_delta":
                yield event.text_delta.text
            case "tool_call_start":
                start = event.tool_call_start
                calls.append(pb.ToolCall(id=start.id, name=start.name))
            case "tool_call_delta":
                delta = event.tool_call_delta
                calls[delta.index].arguments_json += delta.arguments_json
            case "finished":
                if event.finished.reason != pb.FINISH_REASON_TOOL_CALLS:
                    return
                results = pb.ToolResults(results=[run(call) for call in calls])
                await call.write(pb.ConverseRequest(tool_results=results))
                calls.clear()
    raise EOFError("incomplete answer")


def request(prompt: str) -> pb.CompleteRequest:
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=prompt)])
    return pb.CompleteRequest(completion=pb.CompletionSpec(messages=[message]))


def run(call: pb.ToolCall) -> pb.ToolResult:
    """Run the tool; an error becomes a failed result."""
    try:
        arguments = json.loads(call.arguments_json or "{}")
        text, failed = str(arguments["a"] + arguments["b"]), False
    except (LookupError, TypeError, ValueError) as error:
        text, failed = repr(error), True
    print(f"{call.name}({call.arguments_json}) = {text}")
    return pb.ToolResult(call_id=call.id, content=[pb.Part(text=text)], is_error=failed)


def reason(details: Iterable[any_pb2.Any]) -> str:
    """Describe google.rpc.ErrorInfo, whose reason never changes, if the details have it."""
    info = ErrorInfo()
    found = any(detail.Unpack(info) for detail in details)
    return f" ({info.reason}, retryable: {info.metadata['retryable']})" if found else ""


def explain(error: Any) -> str:
    """Describe a call that failed by its status and details."""
    status = rpc_status.from_call(error)
    return f"{error.code().name}: {error.details()}{reason(status.details if status else ())}"


async def main(
    prompt: str = "Why is the sky blue?",
    sum_prompt: str = "What is 19 + 23?",
    long_prompt: str = "Tell a long story.",
) -> None:
    """Stream an answer, run a tool, and cancel a call."""
    target = os.environ.get("BRIDGE_TARGET", "127.0.0.1:50051")
    async with grpc.aio.insecure_channel(target) as channel:
        client = Client(channel, os.environ.get("BRIDGE_API_KEY", ""))
        try:
            async for text in client.ask(prompt):
                print(text, end="", flush=True)
            print()
            await client.converse(sum_prompt)
            text, code = await client.cancel(long_prompt)
            print(f"{text}… {code.name}")
        except TurnFailedError as error:
            sys.exit(str(error))
        except grpc.RpcError as error:
            sys.exit(explain(error))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
