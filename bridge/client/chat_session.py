"""A conversation at the terminal: what was said so far, and what goes with a prompt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bridge.client.asking import ChatError, Client, Done, Picture, Question, Text, Turn

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """How an answer went."""

    text: str
    done: Done | None
    """None where it was cancelled."""
    first_seconds: float | None
    total_seconds: float

    def summary(self) -> str:
        """The times and tokens in a line."""
        times = f"{self.total_seconds:.2f} s in all"
        if self.first_seconds is not None:
            times = f"first token {self.first_seconds:.2f} s, {times}"
        if self.done is None:
            return f"cancelled; {times}"
        done = self.done
        tokens = f"{done.prompt_tokens} prompt + {done.output_tokens} output tokens"
        cut = " · cut at the limit of tokens" if done.reason == "length" else ""
        return f"{times} · {tokens} · {done.model}{cut}"


class Conversation:
    """Asks turn by turn, and keeps what was said."""

    def __init__(
        self,
        client: Client,
        question: Question,
        show: Callable[[str], None],
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`question` has the model, the system prompt and the schema; `show` gets the answers."""
        self._client = client
        self._question = question
        self._show = show
        self._timer = timer

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said so far."""
        return self._question.turns

    def forget(self) -> None:
        """Begin anew."""
        self._question = replace(self._question, turns=())

    def say(self, turn: Turn) -> Spoken:
        """Have a turn answered. A KeyboardInterrupt cancels the answer: what there was of it stays.

        Raises ChatError, and then nothing of the turn stays.
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
        return Spoken(text, done, first, self._timer() - began)


def picture_of(name: str) -> Picture:
    """A picture by its file or https address; raises ChatError."""
    if name.startswith("https://"):
        return Picture(url=name)
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise ChatError(f"The image {name} cannot be read: {error.strerror}.") from error
    media_type = next((kind for magic, kind in _MAGIC if content.startswith(magic)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        media_type = "image/webp"
    if not media_type:
        raise ChatError(f"{name} is no PNG, JPEG, GIF or WebP file.")
    return Picture(media_type, content)


def schema_of(path: Path) -> Mapping[str, Any]:
    """A JSON Schema from a file; raises ChatError."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChatError(f"The schema {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ChatError(f"The schema {path} is no JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise ChatError(f"The schema {path} is no JSON object.")
    return schema


def readable(text: str) -> str:
    """Text from the shell or a pipe as a server takes it: without halves of characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
