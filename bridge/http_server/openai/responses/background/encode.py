"""The events of a response in the background: the same for each of its readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bridge.core.contract import BridgeError, Event, Started
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.compaction.answers import CompactionStreamEncoder
from bridge.http_server.openai.responses.encode import ResponseStreamEncoder
from bridge.http_server.openai.shared.replies import DONE


class FinalReply(Protocol):
    """Returns the response as it ended."""

    def __call__(self) -> JsonDict: ...


class BackgroundStreamEncoder(ResponseStreamEncoder):
    """Writes the events after a number. They begin before the model answers."""

    after = -1
    """The number of the last event that the client has."""
    final: FinalReply
    """Called once the response has ended with an error."""

    def opening(self, model: str) -> bytes:
        """Return the first events; `model` is the one that is asked for."""
        self._model = model
        response = self.response("queued")
        self._event("response.created", response=response)
        self._event("response.queued", response=response)
        # The reply begins even if the client has all events so far.
        return self._take() or self.keep_alive

    def count(self, events: Sequence[Event], error: BridgeError | None) -> int:
        """Return how many events an answer has had, with those of the `opening`.

        For an encoder that writes none of them; `error` is the one that ended the answer, if any.
        """
        for event in events:
            self.feed(event)
        if error is not None:
            self.fail(error, "")
        elif self.finished:
            # The last one has the stored response.
            self._number += 1
        return self._number

    def emit(self, frame: bytes) -> None:
        """Write a frame, unless the client has it."""
        if self._number - 1 > self.after or frame is DONE:
            super().emit(frame)

    def on_start(self, event: Started) -> None:
        """Say that the model answers."""
        self._model = event.model
        self._event("response.in_progress", response=self.response("in_progress"))

    def on_error(self, error: BridgeError, request_id: str) -> None:
        """Send the error, and the response as it ended.

        The id is that of the request whose answer it is, not of the one that reads it.
        """
        self._send_error(error, f"req_{self._hex}", self.final())


class BackgroundCompactionEncoder(BackgroundStreamEncoder, CompactionStreamEncoder):
    """The same for a response that compacts."""
