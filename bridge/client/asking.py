"""What is asked of a server and what comes back, whichever door it goes by."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias


class ChatError(Exception):
    """What the server answered instead, or why it could not be reached, in one line."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that goes with a prompt: its bytes, or an https address."""

    media_type: str = ""
    content: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation whose last message is to be answered."""

    turns: tuple[Turn, ...]
    model: str = "default"
    system: str | None = None
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the answer is to match."""


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete."""

    model: str = ""
    """The one that answered."""
    reason: str = ""
    """Why it ended: stop, length, content_filter."""
    prompt_tokens: int = 0
    output_tokens: int = 0


Asked: TypeAlias = Text | Done


class Client(Protocol):
    """A server, by one of its doors. Everything raises ChatError."""

    def ask(self, question: Question) -> Generator[Asked, None, None]:
        """Yield the answer as it comes, then Done. Closing the generator cancels the answer."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """The models on offer, each with its `id` and what else the door tells."""
        ...
