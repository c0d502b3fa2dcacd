"""Responses, streamed or whole: one class collects the items, the other also sends events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from bridge.core.contract import (
    BridgeError,
    Finished,
    FinishReason,
    RequestCancelledError,
    Started,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.http_server.dialect import JsonDict
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.openai.responses.kept_items import item_id
from bridge.http_server.openai.responses.replies import (
    call_item,
    message_item,
    output_text,
    reasoning_item,
    response_object,
    response_usage,
    summary_text,
)
from bridge.http_server.openai.responses.tools import OfferedTool, ToolKind, offered_function
from bridge.http_server.openai.shared.errors import USAGE_LIMIT, error_body
from bridge.http_server.openai.shared.replies import DONE
from bridge.http_server.wire import cost_object, is_json_object

INCOMPLETE: Final = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.REFUSAL: "content_filter",
}
"""Ends that leave an answer incomplete, in OpenAI's words."""

_EVENTS: Final = {
    ToolKind.FUNCTION: "response.function_call_arguments",
    ToolKind.CUSTOM: "response.custom_tool_call_input",
}
"""The events of a call's text."""

_NO_TOOLS: Final[Mapping[str, OfferedTool]] = MappingProxyType({})


class ResponseCollector(EventEncoder):
    """Collects the events of an answer into a response."""

    def __init__(
        self,
        *,
        hex: str,
        created: int,
        echo: JsonDict,
        store: bool,
        clock: Callable[[], float],
        tools: Mapping[str, OfferedTool] = _NO_TOOLS,
    ) -> None:
        """`hex` is the response's id without its prefix, `store` whether it is to be stored,
        `tools` are the offered tools by the names that the model sees.
        """
        super().__init__()
        self._tools = tools
        self._hex = hex
        self._created = created
        self._echo = {**echo, "store": store}
        self._clock = clock
        self._model = ""
        self._output: list[JsonDict] = []
        self._pieces: list[str] = []
        self._call: ToolCallStart | None = None

    @property
    def id(self) -> str:
        """The id of the response."""
        return f"resp_{self._hex}"

    def reply(self) -> JsonDict:
        """Build the response; raises UnavailableError if the answer ended prematurely."""
        self.check_finished()
        end = self.ending
        assert isinstance(end, Finished)
        why = INCOMPLETE.get(end.reason)
        reply = self.response("completed" if why is None else "incomplete")
        if why is None:
            reply["completed_at"] = int(self._clock())
        else:
            reply["incomplete_details"] = {"reason": why}
        reply["usage"] = {**response_usage(end.usage), **cost_object(end)}
        return reply

    def failed(self, error: BridgeError, request_id: str) -> JsonDict:
        """Build the response that an error has ended, after `fail`."""
        if isinstance(error, RequestCancelledError):
            return self.response("cancelled")
        said = error_body(error, request_id)["error"]
        reply = self.response("failed")
        reply["error"] = {"code": _failure_code(said["type"]), "message": said["message"]}
        return reply

    def on_start(self, event: Started) -> None:
        self._model = event.model

    def on_text(self, text: str) -> None:
        self._pieces.append(text)

    def on_text_end(self) -> None:
        content = [output_text(self._take_text())]
        self._output.append(message_item(self._item_id("message"), self._status(), content))

    def on_thinking(self, text: str) -> None:
        self._pieces.append(text)

    def on_thinking_end(self) -> None:
        summary = [summary_text(self._take_text())]
        self._output.append(reasoning_item(self._item_id("reasoning"), self._status(), summary))

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        self._call = event

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        self._pieces.append(event.arguments)

    def on_tool_call_end(self, index: int) -> None:
        call = self._call
        assert call is not None
        tool = self._tool(call)
        text = self._take_text()
        if tool.kind is not ToolKind.CUSTOM:
            text = text or ("{}" if self._status() == "completed" else "")
        # A call whose arguments are not a JSON object is incomplete.
        usable = tool.kind is ToolKind.CUSTOM or is_json_object(text)
        status = self._status() if usable else "incomplete"
        id = self._item_id(tool.kind.value)
        self._output.append(call_item(id, status, call.id, tool, text))

    def _tool(self, call: ToolCallStart) -> OfferedTool:
        """The called tool, as its caller defined it."""
        return self._tools.get(call.name) or offered_function(call.name)

    def response(self, status: str) -> JsonDict:
        """Build the response as it is so far."""
        return response_object(
            self.id, self._created, self._model, status, self._output, self._echo
        )

    def _item_id(self, kind: str) -> str:
        """The id of the next item."""
        return item_id(kind, self._hex, len(self._output))

    def _status(self) -> str:
        """The status of the part that is being closed."""
        end = self.ending
        cut = end is not None and not (isinstance(end, Finished) and end.reason not in INCOMPLETE)
        return "incomplete" if cut else "completed"

    @property
    def _broke_off(self) -> bool:
        """Whether an error ends the answer, so that its last part is incomplete."""
        return isinstance(self.ending, BridgeError)

    def _take_text(self) -> str:
        text = "".join(self._pieces)
        self._pieces.clear()
        return text


class ResponseStreamEncoder(ResponseCollector):
    """Writes the events of a streamed response.

    The last event depends on whether the response was stored: `last_frame` writes it. What is the
    same in all deltas of a part is built once.
    """

    def __init__(
        self,
        *,
        hex: str,
        created: int,
        echo: JsonDict,
        store: bool,
        clock: Callable[[], float],
        tools: Mapping[str, OfferedTool] = _NO_TOOLS,
    ) -> None:
        super().__init__(hex=hex, created=created, echo=echo, store=store, clock=clock, tools=tools)
        self._number = 0
        self._begun = False
        self._head = ""
        self._tail = ""

    def last_frame(self, reply: JsonDict) -> bytes:
        """Write the event that ends the stream, with the complete response."""
        self._event(f"response.{reply['status']}", response=reply)
        self.emit(DONE)
        return self._take()

    def on_start(self, event: Started) -> None:
        """Send the start of the response."""
        super().on_start(event)
        self._begin()

    def on_text_start(self, *, cited: bool = False) -> None:
        """Open a message and its only part."""
        id = self._item_id("message")
        self._add_item(message_item(id, "in_progress", []))
        at = self._place(id) | {"content_index": 0}
        self._event("response.content_part.added", **at, part=output_text(""))
        self._open_deltas("response.output_text.delta", at, ',"logprobs":[]')

    def on_text(self, text: str) -> None:
        self._delta(text)

    def on_text_end(self) -> None:
        """Close the part and the message."""
        super().on_text_end()
        if self._broke_off:
            return
        item = self._output[-1]
        (part,) = item["content"]
        at = self._place(item["id"]) | {"content_index": 0}
        self._event("response.output_text.done", **at, text=part["text"], logprobs=[])
        self._event("response.content_part.done", **at, part=part)
        self._finish_item(item)

    def on_thinking_start(self) -> None:
        """Open a reasoning item and its only summary."""
        id = self._item_id("reasoning")
        self._add_item(reasoning_item(id, "in_progress", []))
        at = self._place(id) | {"summary_index": 0}
        self._event("response.reasoning_summary_part.added", **at, part=summary_text(""))
        self._open_deltas("response.reasoning_summary_text.delta", at)

    def on_thinking(self, text: str) -> None:
        self._delta(text)

    def on_thinking_end(self) -> None:
        """Close the summary and its item."""
        super().on_thinking_end()
        if self._broke_off:
            return
        item = self._output[-1]
        (part,) = item["summary"]
        at = self._place(item["id"]) | {"summary_index": 0}
        self._event("response.reasoning_summary_text.done", **at, text=part["text"])
        self._event("response.reasoning_summary_part.done", **at, part=part)
        self._finish_item(item)

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        super().on_tool_call_start(event)
        tool = self._tool(event)
        id = self._item_id(tool.kind.value)
        self._add_item(call_item(id, "in_progress", event.id, tool, ""))
        if (name := _EVENTS.get(tool.kind)) is not None:
            self._open_deltas(f"{name}.delta", self._place(id))

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        if self._called is ToolKind.SEARCH:
            # The item has all of them once they are complete.
            super().on_tool_call_delta(event)
        else:
            self._delta(event.arguments)

    @property
    def _called(self) -> ToolKind:
        assert self._call is not None
        return self._tool(self._call).kind

    def on_tool_call_end(self, index: int) -> None:
        kind = self._called
        ended = self._status() == "completed"
        if not self._pieces and ended and kind is ToolKind.FUNCTION:
            # A call without parameters may have empty arguments, which are not JSON.
            self._delta("{}")
        super().on_tool_call_end(index)
        if not ended:
            # Otherwise a client would run half a command.
            return
        item = self._output[-1]
        if kind is ToolKind.FUNCTION:
            self._event(
                f"{_EVENTS[kind]}.done",
                **self._place(item["id"]),
                name=item["name"],
                arguments=item["arguments"],
            )
        elif kind is ToolKind.CUSTOM:
            self._event(f"{_EVENTS[kind]}.done", **self._place(item["id"]), input=item["input"])
        self._finish_item(item)

    def on_error(self, error: BridgeError, request_id: str) -> None:
        """Send the error in two events: some clients look for one, some for the other."""
        if not self._begun:
            # A comment was sent before the first event, so the error has no status.
            self._begin()
        # Only complete answers are stored.
        self._send_error(error, request_id, self.failed(error, request_id) | {"store": False})

    def _send_error(self, error: BridgeError, request_id: str, reply: JsonDict) -> None:
        said = error_body(error, request_id)["error"]
        self._event("error", code=said["code"], message=said["message"], param=said["param"])
        self._event("response.failed", response=reply)
        self.emit(DONE)

    def _begin(self) -> None:
        self._begun = True
        response = self.response("in_progress")
        self._event("response.created", response=response)
        self._event("response.in_progress", response=response)

    def _add_item(self, item: JsonDict) -> None:
        index = len(self._output)
        self._event("response.output_item.added", output_index=index, item=item)

    def _finish_item(self, item: JsonDict) -> None:
        index = len(self._output) - 1
        self._event("response.output_item.done", output_index=index, item=item)

    def _place(self, id: str) -> JsonDict:
        """The fields that say which item an event is about; ids end in the item's index."""
        return {"item_id": id, "output_index": int(id.rpartition("_")[2])}

    def _event(self, type: str, **content: object) -> None:
        event = {"type": type, "sequence_number": self._number, **content}
        self._number += 1
        data = json.dumps(event, separators=(",", ":"))
        self.emit(f"event: {type}\ndata: {data}\n\n".encode())

    def _open_deltas(self, type: str, place: JsonDict, tail: str = "") -> None:
        same = json.dumps({"type": type, **place}, separators=(",", ":"))[:-1]
        self._head = f'event: {type}\ndata: {same},"sequence_number":'
        self._tail = f"{tail}}}\n\n"

    def _delta(self, text: str) -> None:
        self._pieces.append(text)
        number = self._number
        self._number = number + 1
        self.emit(f'{self._head}{number},"delta":{json.dumps(text)}{self._tail}'.encode())


def _failure_code(kind: str) -> str:
    """Return the nearest of the few codes that OpenAI's type allows here."""
    if kind in ("rate_limit_error", USAGE_LIMIT):
        return "rate_limit_exceeded"
    return "server_error" if kind == "server_error" else "invalid_prompt"
