"""The events of a streamed message."""

from __future__ import annotations

import json
from typing import ClassVar, Final

from bridge.core.contract import (
    BridgeError,
    Citation,
    Finished,
    Started,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.http_server.anthropic.errors import error_body
from bridge.http_server.anthropic.messages.replies import delta_usage_object, ending, message_object
from bridge.http_server.dialect import JsonDict
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.wire import cost_object

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTA: Final = "event: content_block_delta\n"


class MessageStreamEncoder(EventEncoder):
    """Writes the events of a message, numbering its blocks."""

    keep_alive: ClassVar[bytes] = PING

    def __init__(self, *, id: str, omit_thinking: bool = False) -> None:
        """With `omit_thinking`, blocks of thinking only have their signature."""
        super().__init__()
        self._id = id
        self._omit_thinking = omit_thinking
        self._index = 0

    def on_start(self, event: Started) -> None:
        """Send the message, still empty, with the tokens of the prompt."""
        message = message_object(self._id, event.model, event.usage)
        self._send("message_start", message=message)
        self.emit(PING)

    def on_text_start(self, *, cited: bool = False) -> None:
        """Open a block of text."""
        block: JsonDict = {"type": "text", "text": ""}
        self._open_block({"citations": [], **block} if cited else block)

    def on_citation(self, event: Citation) -> None:
        """Send what the text is based on."""
        delta = {"type": "citations_delta", "citation": event.location}
        self._send("content_block_delta", index=self._index, delta=delta)

    def on_text(self, text: str) -> None:
        """Send more text."""
        self._delta("text_delta", "text", text)

    def on_text_end(self) -> None:
        """Close the block."""
        self._close_block()

    def on_thinking_start(self) -> None:
        """Open a block of thinking."""
        self._open_block({"type": "thinking", "thinking": "", "signature": ""})

    def on_thinking(self, text: str) -> None:
        """Send more thinking, unless it is to be omitted."""
        if not self._omit_thinking:
            self._delta("thinking_delta", "thinking", text)

    def on_signature(self, signature: str) -> None:
        """Sign the thinking."""
        self._delta("signature_delta", "signature", signature)

    def on_thinking_end(self) -> None:
        """Close the block."""
        self._close_block()

    def on_encrypted_thinking(self, data: str) -> None:
        """Send thinking that cannot be read, which is one event."""
        self._open_block({"type": "redacted_thinking", "data": data})
        self._close_block()

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        """Open a block of a call."""
        self._open_block({"type": "tool_use", "id": event.id, "name": event.name, "input": {}})

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        """Send more of the arguments."""
        self._delta("input_json_delta", "partial_json", event.arguments)

    def on_tool_call_end(self, index: int) -> None:
        """Close the block."""
        self._close_block()

    def on_finish(self, event: Finished) -> None:
        """Send why the answer ended, with all tokens."""
        usage = {**delta_usage_object(event.usage), **cost_object(event)}
        self._send("message_delta", delta=ending(event), usage=usage)
        self._send("message_stop")

    def on_error(self, error: BridgeError, request_id: str) -> None:
        """Send the error, which clients raise; no end of the message follows."""
        self._event("error", error_body(error, request_id))

    def _open_block(self, block: JsonDict) -> None:
        self._send("content_block_start", index=self._index, content_block=block)

    def _delta(self, kind: str, field: str, text: str) -> None:
        # One of these per token: only the text is converted.
        self.emit(
            f'{_DELTA}data: {{"type":"content_block_delta","index":{self._index},'
            f'"delta":{{"type":"{kind}","{field}":{json.dumps(text)}}}}}\n\n'.encode()
        )

    def _close_block(self) -> None:
        self._send("content_block_stop", index=self._index)
        self._index += 1

    def _send(self, name: str, **fields: object) -> None:
        self._event(name, {"type": name, **fields})

    def _event(self, name: str, data: JsonDict) -> None:
        payload = json.dumps(data, separators=(",", ":"))
        self.emit(f"event: {name}\ndata: {payload}\n\n".encode())
