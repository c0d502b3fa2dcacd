"""The one object that answers a message request which is not streamed."""

from __future__ import annotations

import json
from typing import Any

from bridge.core.contract import Citation, Finished, Started, ToolCallDelta, ToolCallStart
from bridge.http_server.anthropic.messages.replies import ending, message_object, usage_object
from bridge.http_server.dialect import JsonDict
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.wire import cost_object


class MessageCollector(EventEncoder):
    """Gathers the events of an answer into a message."""

    def __init__(self, *, id: str, omit_thinking: bool = False) -> None:
        """With `omit_thinking`, blocks of thinking only have their signature."""
        super().__init__()
        self._id = id
        self._omit_thinking = omit_thinking
        self._message: JsonDict = {}
        self._blocks: list[JsonDict] = []
        self._pieces: list[str] = []

    def on_start(self, event: Started) -> None:
        """Note which model answers."""
        self._message = message_object(self._id, event.model, event.usage)

    def on_text_start(self, *, cited: bool = False) -> None:
        """Open a block of text."""
        block: JsonDict = {"type": "text", "text": ""}
        self._begin({"citations": [], **block} if cited else block)

    def on_citation(self, event: Citation) -> None:
        """Note what the text is based on."""
        self._blocks[-1].setdefault("citations", []).append(event.location)

    def on_text(self, text: str) -> None:
        """Note more text."""
        self._pieces.append(text)

    def on_text_end(self) -> None:
        """Close the block."""
        self._blocks[-1]["text"] = "".join(self._pieces)

    def on_thinking_start(self) -> None:
        """Open a block of thinking."""
        self._begin({"type": "thinking", "thinking": "", "signature": ""})

    def on_thinking(self, text: str) -> None:
        """Note more thinking."""
        self._pieces.append(text)

    def on_signature(self, signature: str) -> None:
        """Note the signature of the thinking."""
        self._blocks[-1]["signature"] = signature

    def on_thinking_end(self) -> None:
        """Close the block."""
        if not self._omit_thinking:
            self._blocks[-1]["thinking"] = "".join(self._pieces)

    def on_encrypted_thinking(self, data: str) -> None:
        """Note thinking that cannot be read."""
        self._begin({"type": "redacted_thinking", "data": data})

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        """Note a call."""
        self._begin({"type": "tool_use", "id": event.id, "name": event.name, "input": {}})

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        """Note more arguments."""
        self._pieces.append(event.arguments)

    def on_tool_call_end(self, index: int) -> None:
        """Close the block."""
        self._blocks[-1]["input"] = _arguments("".join(self._pieces))

    def on_finish(self, event: Finished) -> None:
        """Note how the answer ended."""
        self._message |= {
            **ending(event),
            "usage": {**usage_object(event.usage), **cost_object(event)},
        }

    def reply(self) -> JsonDict:
        """Build the message; raises UnavailableError if the answer ended prematurely."""
        self.check_finished()
        return {**self._message, "content": self._blocks}

    def _begin(self, block: JsonDict) -> None:
        self._blocks.append(block)
        self._pieces = []


def _arguments(text: str) -> Any:
    """Read the arguments of a call; those of a call that was cut off are empty."""
    try:
        value = json.loads(text or "{}")
        # What is no number of JSON's could not be written out again.
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
