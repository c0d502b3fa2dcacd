"""The chunks of a streamed chat completion."""

from __future__ import annotations

import json

from bridge.core.contract import (
    BridgeError,
    Finished,
    FinishReason,
    Started,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.openai.shared.errors import error_body
from bridge.http_server.openai.shared.replies import DONE, FINISH_REASONS, usage_object
from bridge.http_server.sse import data_frame
from bridge.http_server.wire import cost_object


class ChatStreamEncoder(EventEncoder):
    """Writes `chat.completion.chunk` objects.

    What is the same in every chunk is built once: a text delta costs one `json.dumps` of its text.
    """

    def __init__(
        self,
        *,
        id: str,
        created: int,
        include_usage: bool = False,
        include_thinking: bool = False,
        function_call_form: bool = False,
    ) -> None:
        super().__init__()
        self._id = id
        self._created = created
        self._include_usage = include_usage
        self._include_thinking = include_thinking
        self._function_call_form = function_call_form
        self._head = ""

    def on_start(self, event: Started) -> None:
        """Send the role, with an empty text: some clients fail without one."""
        same = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": event.model,
            "service_tier": "default",
        }
        self._head = f"data: {json.dumps(same, separators=(',', ':'))[:-1]},"
        self._delta('{"role":"assistant","content":"","refusal":null}')

    def on_text(self, text: str) -> None:
        self._delta(f'{{"content":{json.dumps(text)}}}')

    def on_thinking(self, text: str) -> None:
        """Send thinking in DeepSeek's field, to callers that ask for it."""
        if self._include_thinking:
            self._delta(f'{{"reasoning_content":{json.dumps(text)}}}')

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        """Send id and name once: clients concatenate repeated ones."""
        function = f'{{"name":{json.dumps(event.name)},"arguments":""}}'
        if self._function_call_form:
            self._delta(f'{{"function_call":{function}}}')
            return
        self._delta(
            f'{{"tool_calls":[{{"index":{event.index},"id":{json.dumps(event.id)},'
            f'"type":"function","function":{function}}}]}}'
        )

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        function = f'{{"arguments":{json.dumps(event.arguments)}}}'
        if self._function_call_form:
            self._delta(f'{{"function_call":{function}}}')
            return
        self._delta(f'{{"tool_calls":[{{"index":{event.index},"function":{function}}}]}}')

    def on_finish(self, event: Finished) -> None:
        """Send the finish reason, the usage if requested, and the end mark."""
        self._delta("{}", finish_reason(event.reason, self._function_call_form))
        if self._include_usage:
            whole = {**usage_object(event.usage), **cost_object(event)}
            usage = json.dumps(whole, separators=(",", ":"))
            self.emit(f'{self._head}"choices":[],"usage":{usage}}}\n\n'.encode())
        self.emit(DONE)

    def on_error(self, error: BridgeError, request_id: str) -> None:
        """Send the error, which clients raise, without a finish reason or an end mark."""
        self.emit(data_frame(error_body(error, request_id)))

    def _delta(self, delta: str, reason: str | None = None) -> None:
        # With include_usage every chunk has the key, null in all but the last (API reference).
        tail = ',"usage":null}\n\n' if self._include_usage else "}\n\n"
        finish = "null" if reason is None else f'"{reason}"'
        self.emit(
            f'{self._head}"choices":[{{"index":0,"delta":{delta},"logprobs":null,'
            f'"finish_reason":{finish}}}]{tail}'.encode()
        )


def finish_reason(reason: FinishReason, function_call_form: bool) -> str:
    """Return OpenAI's finish reason; the deprecated form has another one for calls."""
    if function_call_form and reason is FinishReason.TOOL_CALLS:
        return "function_call"
    return FINISH_REASONS[reason]
