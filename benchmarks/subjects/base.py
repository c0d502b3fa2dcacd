"""The interface of all subjects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

now = time.monotonic
"""The clock of all measurements, and of the simulator's ledger."""

TOOL_NAME = "get_weather"
TOOL_DESCRIPTION = "The weather at a place."
TOOL_PARAMETERS = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
}
TOOL_ARGUMENTS = {"place": "Oslo"}
TEMPERATURE = 0.5
STOP = "THE END"


class NotSupportedError(Exception):
    """This version of the server rejects the request."""


class FailedError(Exception):
    """An answer was incomplete."""


@dataclass(frozen=True, slots=True)
class Request:
    """A completion. User and assistant turns alternate; the first and the last are the user's.

    `tool` adds a tool, `extras` a tool and sampling parameters. `result` is the id and the result
    of a call of that tool, which answered the last turn.
    """

    system: str
    turns: tuple[str, ...]
    extras: bool = False
    tool: bool = False
    result: tuple[str, str] | None = None

    def then(self, answer: str, question: str) -> Request:
        """The next request of a conversation, with the whole history as a chat client sends it."""
        return Request(self.system, (*self.turns, answer, question), self.extras)

    def messages(self) -> Iterator[tuple[str, str]]:
        """Pairs of role and text."""
        for n, text in enumerate(self.turns):
            yield ("assistant" if n % 2 else "user"), text


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt: all of them, and those read from the cache."""

    prompt: int
    cached: int

    @property
    def share(self) -> float:
        """The share that came from the cache."""
        return self.cached / self.prompt if self.prompt else 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, with the times at which its pieces of text arrived."""

    started: float
    ended: float
    moments: tuple[float, ...]
    text: str
    usage: Usage | None = None
    call_id: str = ""
    """The id of the tool call at its end."""

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.moments[0] - self.started

    @property
    def total(self) -> float:
        """Seconds to the end of the answer."""
        return self.ended - self.started


class Subject(Protocol):
    """A way to get answers."""

    name: str
    holds_conversation: bool
    """Whether it keeps one conversation itself: only the last turn of a request is sent."""

    async def ask(self, request: Request, *, stop_after: int | None = None) -> Answer:
        """Get an answer, or disconnect after `stop_after` pieces; `ended` is then that time.

        Raises NotSupportedError, and FailedError if the answer is incomplete.
        """

    async def pause(self) -> None:
        """Untimed: called between two turns of a conversation."""

    async def reset(self) -> None:
        """Untimed: called before an unrelated request."""


def sse_events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, Any]]:
    """The JSON of server-sent events, each with the time at which it was complete."""
    rest = b""
    for moment, piece in pieces:
        *frames, rest = (rest + piece).split(b"\n\n")
        for frame in frames:
            for line in frame.split(b"\n"):
                if line.startswith(b"data: ") and line != b"data: [DONE]":
                    yield moment, json.loads(line[6:])
