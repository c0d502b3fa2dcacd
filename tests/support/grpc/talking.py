"""A client of Converse, as tests need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.support.grpc.fakes import soon


@dataclass
class Turn:
    """The events of a turn, gathered."""

    events: list[str] = field(default_factory=list)
    text: str = ""
    calls: list[pb.ToolCallStart] = field(default_factory=list)
    request_id: str = ""
    reason: int = pb.FINISH_REASON_UNSPECIFIED

    def add(self, response: pb.ConverseResponse) -> None:
        kind = response.WhichOneof("event")
        assert kind is not None
        self.events.append(kind)
        match kind:
            case "started":
                self.request_id = response.started.request_id
            case "text_delta":
                self.text += response.text_delta.text
            case "tool_call_start":
                self.calls.append(response.tool_call_start)
            case "finished":
                self.reason = response.finished.reason


class Talk:
    """One call of Converse."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        timeout: float | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.call: grpc.aio.StreamStreamCall[Any, Any] = pb_grpc.CompletionServiceStub(
            channel
        ).Converse(timeout=timeout, metadata=metadata)

    async def open(self, **settings: Any) -> Self:
        await self.send(open=pb.ConversationSettings(**settings))
        return self

    async def send(self, **kind: Any) -> None:
        await soon(self.call.write(pb.ConverseRequest(**kind)))

    async def say(self, *texts: str) -> None:
        parts = [pb.Part(text=text) for text in texts]
        await self.send(message=pb.UserMessage(parts=parts))

    async def give(self, **results: str) -> None:
        """Give results, by the ids of their calls."""
        given = [
            pb.ToolResult(call_id=call_id, content=[pb.Part(text=text)])
            for call_id, text in results.items()
        ]
        await self.send(tool_results=pb.ToolResults(results=given))

    async def cancel_turn(self) -> None:
        await self.send(cancel=pb.CancelTurn())

    async def read(self) -> pb.ConverseResponse:
        """Take the next event, which must not be the end of the call."""
        response = await soon(self.call.read())
        assert isinstance(response, pb.ConverseResponse)
        return response

    async def turn(self) -> Turn:
        """Take the events up to the end of the turn."""
        turn = Turn()
        while not turn.reason:
            turn.add(await self.read())
        return turn

    async def ask(self, *texts: str) -> Turn:
        await self.say(*texts)
        return await self.turn()

    async def until(self, kind: str) -> pb.ConverseResponse:
        """Take events up to the first of a kind."""
        while (response := await self.read()).WhichOneof("event") != kind:
            pass
        return response

    async def end(self) -> grpc.StatusCode:
        """Have nothing more to say; gives the status of the call."""
        await soon(self.call.done_writing())
        return await self.code()

    async def code(self) -> grpc.StatusCode:
        """The status of the call, once what is left of it is read."""
        try:
            while isinstance(await soon(self.call.read()), pb.ConverseResponse):
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        return await soon(self.call.code())
