"""The legacy text completion, streamed or as one object."""

from __future__ import annotations

from bridge.core.contract import BridgeError, Finished, Started
from bridge.http_server.dialect import JsonDict
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.openai.shared.errors import error_body
from bridge.http_server.openai.shared.replies import DONE, FINISH_REASONS, usage_object
from bridge.http_server.sse import data_frame
from bridge.http_server.wire import cost_object


class TextStreamEncoder(EventEncoder):
    """Writes `text_completion` chunks."""

    def __init__(self, *, id: str, created: int, include_usage: bool = False) -> None:
        super().__init__()
        self._id = id
        self._created = created
        self._include_usage = include_usage
        self._model = ""

    def on_start(self, event: Started) -> None:
        """Send an empty text, so that the caller sees the start of the answer."""
        self._model = event.model
        self._chunk([text_choice("", None)])

    def on_text(self, text: str) -> None:
        self._chunk([text_choice(text, None)])

    def on_finish(self, event: Finished) -> None:
        """Send the finish reason, the usage if requested, and the end mark."""
        self._chunk([text_choice("", FINISH_REASONS[event.reason])])
        if self._include_usage:
            self._chunk([], {**usage_object(event.usage), **cost_object(event)})
        self.emit(DONE)

    def on_error(self, error: BridgeError, request_id: str) -> None:
        """Send the error, without a finish reason or an end mark."""
        self.emit(data_frame(error_body(error, request_id)))

    def _chunk(self, choices: list[JsonDict], usage: JsonDict | None = None) -> None:
        chunk = text_completion(self._id, self._created, self._model, choices)
        if self._include_usage:
            chunk["usage"] = usage
        self.emit(data_frame(chunk))


class TextReplyCollector(EventEncoder):
    """Collects the events of an answer into a `text_completion` object."""

    def __init__(self, *, id: str, created: int) -> None:
        super().__init__()
        self._id = id
        self._created = created
        self._model = ""
        self._text: list[str] = []
        self._end: Finished | None = None

    def on_start(self, event: Started) -> None:
        self._model = event.model

    def on_text(self, text: str) -> None:
        self._text.append(text)

    def on_finish(self, event: Finished) -> None:
        self._end = event

    def reply(self) -> JsonDict:
        """Build the object; raises UnavailableError if the answer ended prematurely."""
        self.check_finished()
        assert self._end is not None
        choice = text_choice("".join(self._text), FINISH_REASONS[self._end.reason])
        completion = text_completion(self._id, self._created, self._model, [choice])
        return {**completion, "usage": {**usage_object(self._end.usage), **cost_object(self._end)}}


def text_choice(text: str, finish_reason: str | None) -> JsonDict:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}


def text_completion(id: str, created: int, model: str, choices: list[JsonDict]) -> JsonDict:
    """Build a text completion, or a chunk of one: they have the same shape."""
    return {
        "id": id,
        "object": "text_completion",
        "created": created,
        "model": model,
        "choices": choices,
    }
