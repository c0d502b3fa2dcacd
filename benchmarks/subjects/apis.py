"""The bridge's HTTP and gRPC API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import grpc

from benchmarks.subjects.base import (
    STOP,
    TEMPERATURE,
    TOOL_ARGUMENTS,
    TOOL_DESCRIPTION,
    TOOL_NAME,
    TOOL_PARAMETERS,
    Answer,
    FailedError,
    NotSupportedError,
    Request,
    Usage,
    now,
    sse_events,
)
from benchmarks.wire import Connection, HttpError
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

_DEADLINE = 120.0
_ROLES = {"user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT}

Settle = Callable[[], Awaitable[None]]


class _FrontEnd:
    """Common to both: waits for the server to settle between requests."""

    holds_conversation = False

    def __init__(self, name: str, settle: Settle) -> None:
        self.name = name
        self._settle = settle

    async def pause(self) -> None:
        """Wait until the server has settled, as it does while a user reads and types."""
        await self._settle()

    async def reset(self) -> None:
        """Wait until the server has settled."""
        await self._settle()


class Http(_FrontEnd):
    """`POST /v1/chat/completions`, streamed, over persistent connections."""

    logged_as = "http"

    def __init__(self, host: str, port: int, settle: Settle, name: str = "HTTP API") -> None:
        super().__init__(name, settle)
        self._address = (host, port)
        self._free: list[Connection] = []

    async def ask(self, request: Request, *, stop_after: int | None = None) -> Answer:
        """Get an answer; see `Subject.ask`."""
        connection = self._free.pop() if self._free else Connection(*self._address)
        pieces: list[tuple[float, bytes]] = []
        started = now()
        try:
            answer = connection.post("/v1/chat/completions", _http_body(request))
            async with aclosing(answer):
                async for piece in answer:
                    pieces.append((now(), piece))
                    if stop_after is not None and len(pieces) >= stop_after:
                        connection.abort()
                        break
        except HttpError as error:
            raise (
                NotSupportedError(_first_words(error.body)) if error.status == 400 else error
            ) from error
        else:
            ended = now()
        finally:
            self._free.append(connection)
        return self._answer(started, ended, pieces, stopped=stop_after is not None)

    async def aclose(self) -> None:
        """Close the connections."""
        for connection in self._free:
            await connection.aclose()

    def _answer(
        self, started: float, ended: float, pieces: list[tuple[float, bytes]], *, stopped: bool
    ) -> Answer:
        moments: list[float] = []
        text: list[str] = []
        usage: Usage | None = None
        call_id = ""
        for moment, chunk in sse_events(pieces):
            if "error" in chunk:
                raise FailedError(f"{self.name}: {chunk['error']}")
            if given := chunk.get("usage"):
                details = given.get("prompt_tokens_details") or {}
                usage = Usage(given["prompt_tokens"], details.get("cached_tokens") or 0)
            for choice in chunk["choices"]:
                if content := choice["delta"].get("content"):
                    moments.append(moment)
                    text.append(content)
                for call in choice["delta"].get("tool_calls") or ():
                    moments.append(moment)
                    call_id = call.get("id") or call_id
                stopped = stopped or choice["finish_reason"] is not None
        if not stopped or not moments:
            raise FailedError(f"{self.name}: incomplete answer")
        return Answer(started, ended, tuple(moments), "".join(text), usage, call_id)


class Grpc(_FrontEnd):
    """`CompletionService.Complete` over one channel, with the generated stub."""

    logged_as = "grpc"

    def __init__(self, target: str, settle: Settle, name: str = "gRPC API") -> None:
        super().__init__(name, settle)
        self._channel = grpc.aio.insecure_channel(target)
        self._stub = CompletionServiceStub(self._channel)

    async def ask(self, request: Request, *, stop_after: int | None = None) -> Answer:
        """Get an answer; see `Subject.ask`."""
        responses: list[tuple[float, pb.CompleteResponse]] = []
        started = now()
        call = self._stub.Complete(_grpc_request(request), timeout=_DEADLINE)
        try:
            async for response in call:
                responses.append((now(), response))
                if stop_after is not None and len(responses) >= stop_after:
                    call.cancel()
                    break
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED):
                raise NotSupportedError(_first_words(error.details() or "")) from error
            raise
        ended = now()
        moments = tuple(moment for moment, r in responses for _ in range(_chunks(r)))
        calls = [
            r.event.tool_call_start.id for _, r in responses if r.event.HasField("tool_call_start")
        ]
        text = "".join(r.event.text_delta.text for _, r in responses)
        last = responses[-1][1]
        if not moments or (stop_after is None and not last.event.HasField("finished")):
            raise FailedError(f"{self.name}: incomplete answer")
        used = last.event.finished.usage
        prompt = used.input_tokens + used.cache_read_tokens + used.cache_write_tokens
        usage = Usage(prompt, used.cache_read_tokens)
        return Answer(started, ended, moments, text, usage, calls[-1] if calls else "")

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _chunks(response: pb.CompleteResponse) -> int:
    """How many chunks of the answer a response has: deltas that waited are joined."""
    match response.event.WhichOneof("event"):
        case "text_delta":
            # The simulator's tokens end with a space.
            return max(response.event.text_delta.text.count(" "), 1)
        case "tool_call_start" | "tool_call_delta":
            return 1
    return 0


def _http_body(request: Request) -> dict[str, Any]:
    messages = [{"role": role, "content": text} for role, text in request.messages()]
    body: dict[str, Any] = {
        "model": "default",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": request.system}, *messages],
    }
    if request.result is not None:
        call_id, result = request.result
        function = {"name": TOOL_NAME, "arguments": json.dumps(TOOL_ARGUMENTS)}
        call = {"id": call_id, "type": "function", "function": function}
        body["messages"] += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": result},
        ]
    if request.extras or request.tool:
        description = {
            "name": TOOL_NAME,
            "description": TOOL_DESCRIPTION,
            "parameters": TOOL_PARAMETERS,
        }
        body["tools"] = [{"type": "function", "function": description}]
    if request.extras:
        body |= {"temperature": TEMPERATURE, "stop": [STOP]}
    return body


def _grpc_request(request: Request) -> pb.CompleteRequest:
    message = pb.CompleteRequest(
        completion=pb.CompletionSpec(
            system=request.system,
            messages=[
                pb.Message(role=_ROLES[role], parts=[pb.Part(text=text)])
                for role, text in request.messages()
            ],
        )
    )
    if request.result is not None:
        call_id, result = request.result
        arguments = json.dumps(TOOL_ARGUMENTS)
        call = pb.ToolCall(id=call_id, name=TOOL_NAME, arguments_json=arguments)
        answer = pb.ToolResult(call_id=call_id, content=[pb.Part(text=result)])
        message.completion.messages.add(role=pb.ROLE_ASSISTANT, parts=[pb.Part(tool_call=call)])
        message.completion.messages.add(role=pb.ROLE_USER, parts=[pb.Part(tool_result=answer)])
    if request.extras or request.tool:
        message.completion.tools.add(
            name=TOOL_NAME,
            description=TOOL_DESCRIPTION,
            parameters_json=json.dumps(TOOL_PARAMETERS),
        )
    if request.extras:
        message.completion.sampling.temperature = TEMPERATURE
        message.completion.sampling.stop.append(STOP)
    return message


def _first_words(text: str) -> str:
    with suppress(ValueError, LookupError, TypeError):
        text = json.loads(text)["error"]["message"]
    return text[:120]
