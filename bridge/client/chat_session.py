"""A conversation at the terminal: its history, and images and schemas for prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bridge.client.asking import ChatError, Client, Done, Image, Question, Text, Turn

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class TurnResult:
    """An answer and its times."""

    text: str
    done: Done | None
    """None if it was cancelled."""
    first_seconds: float | None
    total_seconds: float

    def summary(self) -> str:
        """Times and tokens in one line."""
        times = f"{self.total_seconds:.2f} s total"
        if self.first_seconds is not None:
            times = f"first token {self.first_seconds:.2f} s, {times}"
        if self.done is None:
            return f"cancelled; {times}"
        done = self.done
        tokens = f"{done.prompt_tokens} prompt + {done.output_tokens} output tokens"
        cut = " · cut off at the token limit" if done.reason == "length" else ""
        return f"{times} · {tokens} · {done.model}{cut}"


class Conversation:
    """Sends turn after turn and keeps the history."""

    def __init__(
        self,
        client: Client,
        question: Question,
        show: Callable[[str], None],
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`question` has the model, system prompt and schema; `show` gets the answer's text."""
        self._client = client
        self._question = question
        self._show = show
        self._timer = timer

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The history."""
        return self._question.turns

    def forget(self) -> None:
        """Start over."""
        self._question = replace(self._question, turns=())

    def say(self, turn: Turn) -> TurnResult:
        """Send a turn and show its answer. KeyboardInterrupt cancels it and keeps the part.

        Raises ChatError; the turn is then not added to the history.
        """
        asking = replace(self._question, turns=(*self._question.turns, turn))
        texts: list[str] = []
        done: Done | None = None
        first: float | None = None
        began = self._timer()
        try:
            with closing(self._client.ask(asking)) as answer:
                for part in answer:
                    if isinstance(part, Text):
                        if first is None:
                            first = self._timer() - began
                        texts.append(part.text)
                        self._show(part.text)
                    else:
                        done = part
        except KeyboardInterrupt:
            done = None
        text = "".join(texts)
        if text:
            self._question = replace(asking, turns=(*asking.turns, Turn("assistant", text)))
        return TurnResult(text, done, first, self._timer() - began)


def load_image(name: str) -> Image:
    """Load an image by file name or https URL; raises ChatError."""
    if name.startswith("https://"):
        return Image(url=name)
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise ChatError(f"The image {name} cannot be read: {error.strerror}.") from error
    media_type = next((kind for magic, kind in _MAGIC if content.startswith(magic)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        media_type = "image/webp"
    if not media_type:
        raise ChatError(f"{name} is not a PNG, JPEG, GIF or WebP file.")
    return Image(media_type, content)


def schema_of(path: Path) -> Mapping[str, Any]:
    """Load a JSON Schema from a file; raises ChatError."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChatError(f"The schema {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ChatError(f"The schema {path} is not valid JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise ChatError(f"The schema {path} is not a JSON object.")
    return schema


def readable(text: str) -> str:
    """Text from the shell or a pipe as valid UTF-8: invalid bytes are replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
