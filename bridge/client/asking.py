"""Requests to a server and its answers, independent of the API used."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias


class ChatError(Exception):
    """The server's error, or why it could not be reached, in one line."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that accompanies a prompt: its bytes, or an https URL."""

    media_type: str = ""
    content: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation whose last message is to be answered, and its parameters."""

    turns: tuple[Turn, ...]
    model: str = "default"
    system: str | None = None
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the answer must match."""


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete."""

    model: str = ""
    """The model that answered."""
    reason: str = ""
    """Why it ended: stop, length, content_filter."""
    prompt_tokens: int = 0
    output_tokens: int = 0


Asked: TypeAlias = Text | Done


class Client(Protocol):
    """A server, through one of its APIs. Every method raises ChatError."""

    def ask(self, question: Question) -> Generator[Asked, None, None]:
        """Yield the answer as it comes, then Done. Closing the generator cancels the answer."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """The available models, each with its `id` and further fields of the API."""
        ...
