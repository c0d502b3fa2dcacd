"""Encodes the events of an answer: one class with hooks that each wire format implements."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias, assert_never

from bridge.core.contract import (
    BridgeError,
    Citation,
    EncryptedThinking,
    Event,
    Finished,
    Started,
    TextDelta,
    TextStart,
    ThinkingDelta,
    ThinkingSignature,
    ToolCallDelta,
    ToolCallStart,
    UnavailableError,
)

_OpenPart: TypeAlias = Literal["text", "thinking"] | int
"""The part that deltas currently belong to; a number is the index of a tool call."""


class EventEncoder:
    """Passes events to hooks, and opens and closes the parts around their deltas.

    A hook writes to the wire with `emit`; a collecting hook emits nothing. A part that is still
    open is closed before the end of the answer and before an error.
    """

    keep_alive: ClassVar[bytes] = b": keep-alive\n\n"
    """What is sent when nothing else has been for a while: a comment, which clients skip."""

    def __init__(self) -> None:
        self.finished = False
        self.ending: Finished | BridgeError | None = None
        """What ends the answer, known before the last part is closed."""
        self._open: _OpenPart | None = None
        self._frames: list[bytes] = []

    def feed(self, event: Event) -> bytes:
        """Encode one event; the result may be empty."""
        match event:
            case TextDelta(text=text):
                self._switch("text")
                self.on_text(text)
            case TextStart(cited=cited):
                self._switch(None)
                self._open = "text"
                self.on_text_start(cited=cited)
            case Citation():
                self._switch("text")
                self.on_citation(event)
            case ToolCallDelta():
                self.on_tool_call_delta(event)
            case ThinkingDelta(text=text):
                self._switch("thinking")
                self.on_thinking(text)
            case ThinkingSignature(signature=signature):
                self._switch("thinking")
                self.on_signature(signature)
                self._switch(None)
            case EncryptedThinking(data=data):
                self._switch(None)
                self.on_encrypted_thinking(data)
            case ToolCallStart():
                self._switch(event.index)
                self.on_tool_call_start(event)
            case Started():
                self.on_start(event)
            case Finished():
                self.ending = event
                self._switch(None)
                self.finished = True
                self.on_finish(event)
            case _:
                assert_never(event)
        return self._take()

    def fail(self, error: BridgeError, request_id: str) -> bytes:
        """Encode an error in the middle of the answer."""
        self.ending = error
        self._switch(None)
        self.on_error(error, request_id)
        return self._take()

    def check_finished(self) -> None:
        """Raise UnavailableError for an answer without an end, which a client would take for
        complete.
        """
        if not self.finished:
            raise UnavailableError("The answer ended prematurely. Retry the request.")

    def emit(self, frame: bytes) -> None:
        """Write to the wire."""
        self._frames.append(frame)

    def on_start(self, event: Started) -> None:
        """Handle the start of the answer."""

    def on_text_start(self, *, cited: bool = False) -> None:
        """Handle the start of a text part, which may be `cited`."""

    def on_citation(self, event: Citation) -> None:
        """Handle a citation of the text part."""

    def on_text(self, text: str) -> None:
        """Handle more text."""

    def on_text_end(self) -> None:
        """Handle the end of a text part."""

    def on_thinking_start(self) -> None:
        """Handle the start of a thinking part."""

    def on_thinking(self, text: str) -> None:
        """Handle more thinking."""

    def on_signature(self, signature: str) -> None:
        """Handle the signature of a run of thinking, which ends it."""

    def on_encrypted_thinking(self, data: str) -> None:
        """Handle thinking that is given out encrypted only."""

    def on_thinking_end(self) -> None:
        """Handle the end of a thinking part."""

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        """Handle the start of a tool call."""

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        """Handle more of a tool call's arguments."""

    def on_tool_call_end(self, index: int) -> None:
        """Handle the end of a tool call."""

    def on_finish(self, event: Finished) -> None:
        """Handle the end of the answer."""

    def on_error(self, error: BridgeError, request_id: str) -> None:
        """Handle an error in the middle of the answer."""

    def _switch(self, part: _OpenPart | None) -> None:
        if part == self._open:
            return
        match self._open:
            case "text":
                self.on_text_end()
            case "thinking":
                self.on_thinking_end()
            case int() as index:
                self.on_tool_call_end(index)
            case None:
                pass
            case _:
                assert_never(self._open)
        self._open = part
        if part == "text":
            self.on_text_start()
        elif part == "thinking":
            self.on_thinking_start()

    def _take(self) -> bytes:
        frames = b"".join(self._frames)
        self._frames.clear()
        return frames
