"""The object that answers a chat completion which is not streamed."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.core.contract import Finished, Started, ToolCallDelta, ToolCallStart
from bridge.http_server.dialect import JsonDict
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.openai.chat.stream import finish_reason
from bridge.http_server.openai.shared.replies import usage_object
from bridge.http_server.wire import cost_object


class ChatReplyCollector(EventEncoder):
    """Collects the events of an answer into a `chat.completion` object."""

    def __init__(
        self,
        *,
        id: str,
        created: int,
        include_thinking: bool = False,
        function_call_form: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._id = id
        self._created = created
        self._include_thinking = include_thinking
        self._function_call_form = function_call_form
        self._metadata = metadata
        self._model = ""
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCallStart] = []
        self._arguments: list[list[str]] = []
        self._end: Finished | None = None

    def on_start(self, event: Started) -> None:
        self._model = event.model

    def on_text(self, text: str) -> None:
        self._text.append(text)

    def on_thinking(self, text: str) -> None:
        self._thinking.append(text)

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        self._calls.append(event)
        self._arguments.append([])

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        self._arguments[event.index].append(event.arguments)

    def on_finish(self, event: Finished) -> None:
        self._end = event

    def reply(self) -> JsonDict:
        """Build the object; raises UnavailableError if the answer ended prematurely."""
        self.check_finished()
        assert self._end is not None
        reply: JsonDict = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": 0,
                    "message": self._message(),
                    "logprobs": None,
                    "finish_reason": finish_reason(self._end.reason, self._function_call_form),
                }
            ],
            "usage": {**usage_object(self._end.usage), **cost_object(self._end)},
            "service_tier": "default",
        }
        if self._metadata is not None:
            reply["metadata"] = dict(self._metadata)
        return reply

    def _message(self) -> JsonDict:
        text = "".join(self._text)
        functions = [
            {"name": call.name, "arguments": "".join(arguments)}
            for call, arguments in zip(self._calls, self._arguments, strict=True)
        ]
        message: JsonDict = {
            "role": "assistant",
            "content": None if functions and not text else text,
            "refusal": None,
            "annotations": [],
        }
        if self._include_thinking and self._thinking:
            message["reasoning_content"] = "".join(self._thinking)
        # The key is absent if there are no calls: clients test for it.
        if functions and self._function_call_form:
            message["function_call"] = functions[0]
        elif functions:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": function}
                for call, function in zip(self._calls, functions, strict=True)
            ]
        return message
