"""Hold a conversation with the bridge on one gRPC call, with a custom tool.

    python examples/python_async.py "What is 19 + 23?" "And twice that?"

BRIDGE_TARGET is the address (default 127.0.0.1:50051), BRIDGE_API_KEY the key if the server
requires one. Needs grpcio and the stubs, which are part of the package `claude-code-bridge`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

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


def run(name: str, arguments_json: str) -> pb.ToolResult:
    """Run a tool; an error becomes a failed result."""
    try:
        arguments = json.loads(arguments_json or "{}")
        if name != "add":
            raise LookupError(f"there is no tool {name}")
        text, failed = str(arguments["a"] + arguments["b"]), False
    except (LookupError, TypeError, ValueError) as error:
        text, failed = repr(error), True
    return pb.ToolResult(content=[pb.Part(text=text)], is_error=failed)


class TurnFailedError(Exception):
    """A turn failed; the conversation can go on."""


class Conversation:
    """One call of Converse. Raises TurnFailedError, and grpc.aio.AioRpcError if the call fails."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str = "") -> None:
        metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        stub = CompletionServiceStub(channel)
        self._call: grpc.aio.StreamStreamCall[Any, Any] = stub.Converse(metadata=metadata)

    async def open(self, **settings: Any) -> None:
        """Send the settings of the whole conversation."""
        await self._call.write(
            pb.ConverseRequest(open=pb.OpenConversation(completion=pb.CompletionSpec(**settings)))
        )

    async def send(self, text: str) -> AsyncIterator[str]:
        """Stream the text of the answer, running tools as the model calls them."""
        message = pb.UserMessage(parts=[pb.Part(text=text)])
        await self._call.write(pb.ConverseRequest(message=message))
        calls: dict[int, pb.ToolCall] = {}
        async for response in self._call:
            if response.HasField("turn_failed"):
                raise TurnFailedError(response.turn_failed.message)
            event = response.event
            match event.WhichOneof("event"):
                case "text_delta":
                    yield event.text_delta.text
                case "tool_call_start":
                    start = event.tool_call_start
                    calls[start.index] = pb.ToolCall(id=start.id, name=start.name)
                case "tool_call_delta":
                    delta = event.tool_call_delta
                    calls[delta.index].arguments_json += delta.arguments_json
                case "finished":
                    if event.finished.reason != pb.FINISH_REASON_TOOL_CALLS:
                        return
                    await self._answer(list(calls.values()))
                    calls.clear()
        raise EOFError("incomplete answer")

    async def _answer(self, calls: list[pb.ToolCall]) -> None:
        results = [run(call.name, call.arguments_json) for call in calls]
        for call, result in zip(calls, results, strict=True):
            result.call_id = call.id
        request = pb.ConverseRequest(tool_results=pb.ToolResults(results=results))
        await self._call.write(request)

    async def end(self) -> None:
        """Close the sending side and wait for the call's status."""
        await self._call.done_writing()
        async for _ in self._call:
            pass


async def main(*prompts: str) -> None:
    """Send the prompts one after the other and print the answers."""
    target = os.environ.get("BRIDGE_TARGET", "127.0.0.1:50051")
    async with grpc.aio.insecure_channel(target) as channel:
        conversation = Conversation(channel, os.environ.get("BRIDGE_API_KEY", ""))
        await conversation.open(system="Answer in one sentence.", tools=[ADD])
        for prompt in prompts:
            async for text in conversation.send(prompt):
                print(text, end="", flush=True)
            print()
        await conversation.end()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
