"""The two doors as the soak's callers use them: the same request through either.

Messages are written as OpenAI's clients do. Nothing is retried: what comes back is what the
bridge said first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import grpc
import httpx

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

Json: TypeAlias = dict[str, Any]

LOST = "lost"
"""The answer ended without an end: the one thing that must never be."""
GONE = "gone"
"""The caller went away, as it meant to."""


@dataclass
class Reply:
    """What came of a request; `error` is empty where the answer is whole."""

    text: str = ""
    calls: list[Json] = field(default_factory=list)
    error: str = ""
    retry_after: float | None = None
    """When to try again, as a refusal said it, in seconds."""


@dataclass(frozen=True)
class Ask:
    """A request, and how its caller behaves."""

    messages: Sequence[Json]
    tools: Sequence[str] = ()
    schema: Json | None = None
    stream: bool = True
    leave_after: int | None = None
    """Go away after so many pieces."""
    timeout: float = 120.0
    """Seconds until the caller goes away (HTTP), or the call's deadline (gRPC)."""
    pause: float = 0.0
    """Seconds between pieces."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More of the HTTP body; over gRPC anything here stands for a request that is wrong."""


class Door(Protocol):
    """A way in."""

    name: str

    async def ask(self, ask: Ask) -> Reply:
        """Send a request and take what comes."""
        ...


class HttpDoor:
    """`/v1/chat/completions`."""

    name = "http"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def ask(self, ask: Ask) -> Reply:
        body: Json = {"model": "default", "messages": list(ask.messages), "stream": ask.stream}
        if ask.tools:
            body["tools"] = [{"type": "function", "function": {"name": n}} for n in ask.tools]
        if ask.schema is not None:
            schema = {"name": "s", "schema": ask.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return await self.post("/v1/chat/completions", {**body, **ask.extra}, ask)

    async def post(self, path: str, body: Json, ask: Ask) -> Reply:
        """Send a body and take what comes."""
        try:
            async with (
                asyncio.timeout(ask.timeout),
                self.client.stream("POST", path, json=body) as response,
            ):
                if response.status_code != 200:
                    await response.aread()
                    return _http_error(response)
                if body.get("stream"):
                    return await _http_stream(response, ask)
                (choice,) = json.loads(await response.aread())["choices"]
                if "text" in choice:
                    return Reply(choice["text"])
                message = choice["message"]
                return Reply(message["content"] or "", message.get("tool_calls") or [])
        except TimeoutError:
            return Reply(error=GONE)
        except httpx.TransportError as error:
            return Reply(error=f"{LOST}: {error!r}")


async def _http_stream(response: httpx.Response, ask: Ask) -> Reply:
    reply, pieces = Reply(), 0
    # Closed with the response.
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            return reply
        if not line.startswith("data: "):
            continue
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            reply.error = f"then {chunk['error']['code']}"
            return reply
        for choice in chunk["choices"]:
            if "text" in choice:
                reply.text += choice["text"]
                continue
            delta = choice["delta"]
            reply.text += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                _add_call(reply, call)
        pieces += 1
        if ask.leave_after is not None and pieces > ask.leave_after:
            reply.error = GONE
            return reply
        if ask.pause:
            await asyncio.sleep(ask.pause)
    reply.error = LOST
    return reply


def _add_call(reply: Reply, delta: Json) -> None:
    if "id" in delta:
        reply.calls.append(delta)
    else:
        function = reply.calls[delta["index"]]["function"]
        function["arguments"] += delta["function"]["arguments"]


def _http_error(response: httpx.Response) -> Reply:
    error = response.json()["error"]
    after = response.headers.get("retry-after")
    return Reply(
        error=f"{response.status_code} {error['code']}",
        retry_after=None if after is None else float(after),
    )


class GrpcDoor:
    """`CompletionService.Complete`."""

    name = "grpc"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._stub = CompletionServiceStub(channel)

    async def ask(self, ask: Ask) -> Reply:
        request = pb.CompleteRequest(
            messages=grpc_messages(ask.messages),
            tools=[pb.Tool(name=name) for name in ask.tools],
            model="no such claude" if ask.extra else "",
        )
        if ask.schema is not None:
            request.output_format.kind = pb.OutputFormat.KIND_JSON_SCHEMA
            request.output_format.name = "s"
            request.output_format.schema_json = json.dumps(ask.schema)
        if ask.extra:
            request.messages.add(role=pb.ROLE_UNSPECIFIED)
        call = self._stub.Complete(request, timeout=ask.timeout)
        return await gather(call, ask.leave_after, ask.pause)


async def gather(call: Any, leave_after: int | None = None, pause: float = 0.0) -> Reply:
    """Take the events of a call up to the end of the answer."""
    reply, pieces = Reply(), 0
    try:
        async for event in _events(call):
            match event.WhichOneof("event"):
                case "text_delta":
                    reply.text += event.text_delta.text
                case "tool_call_start":
                    start = event.tool_call_start
                    function = {"name": start.name, "arguments": ""}
                    reply.calls.append({"id": start.id, "type": "function", "function": function})
                case "tool_call_delta":
                    delta = event.tool_call_delta
                    reply.calls[delta.index]["function"]["arguments"] += delta.arguments_json
                case "finished":
                    return reply
            pieces += 1
            if leave_after is not None and pieces > leave_after:
                call.cancel()
                reply.error = GONE
                return reply
            if pause:
                await asyncio.sleep(pause)
    except grpc.aio.AioRpcError as error:
        reply.error = error.code().name
        if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            reply.error += f": {error.details()}"
        reply.retry_after = _retry_after(error)
        return reply
    reply.error = LOST
    return reply


def _retry_after(error: grpc.aio.AioRpcError) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-retry-pushback-ms" and float(value) >= 0:
            return float(value) / 1000
    return None


async def _events(call: Any) -> AsyncIterator[Any]:
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event


def grpc_messages(messages: Sequence[Json]) -> list[pb.Message]:
    """Messages as users of the stub write them."""
    written: list[pb.Message] = []
    for message in messages:
        if message["role"] == "assistant":
            parts = [pb.Part(text=message["content"])] if message["content"] else []
            for call in message.get("tool_calls") or ():
                function = call["function"]
                parts.append(
                    pb.Part(
                        tool_call=pb.ToolCall(
                            id=call["id"],
                            name=function["name"],
                            arguments_json=function["arguments"],
                        )
                    )
                )
            written.append(pb.Message(role=pb.ROLE_ASSISTANT, parts=parts))
            continue
        part = pb.Part(text=message["content"])
        if message["role"] == "tool":
            part = pb.Part(
                tool_result=pb.ToolResult(
                    call_id=message["tool_call_id"], content=[pb.Part(text=message["content"])]
                )
            )
            # All results of one answer are of one message.
            if written[-1].role == pb.ROLE_USER:
                written[-1].parts.append(part)
                continue
        written.append(pb.Message(role=pb.ROLE_USER, parts=[part]))
    return written
