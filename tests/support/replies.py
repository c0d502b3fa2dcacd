"""What came of a request, in the same terms whichever API it went through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

from bridge.core.contract.request import Message, Role, TextPart, ToolCallPart
from bridge.core.contract.usage import Usage

LOST = "lost"
"""The status of an answer that ended without an end."""
GONE = "gone"
"""The status of an answer that its client did not wait for."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, as its API sends it."""

    status: int | str
    """HTTP's number, which is 200 inside a stream; the name of gRPC's code; `LOST` or `GONE`."""
    reason: str = ""
    retry_after: float | None = None
    message: str = ""
    field: str = ""
    retryable: bool | None = None
    """None where it is not said: inside a stream over HTTP."""

    @property
    def summary(self) -> str:
        """Status and reason, on one line."""
        if isinstance(self.status, int):
            return f"{'then' if self.status == 200 else self.status} {self.reason}"
        named = self.status in ("INTERNAL", "UNKNOWN", LOST)
        return f"{self.status}: {self.message}" if named and self.message else self.status


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; its arguments as they came."""

    id: str
    name: str
    fragments: tuple[str, ...] = ()

    @property
    def arguments(self) -> str:
        return "".join(self.fragments)


@dataclass
class Reply:
    """An answer as far as it has come."""

    text: str = ""
    thinking: str = ""
    chunks: int = 0
    """How many pieces the text came in."""
    calls: list[Call] = field(default_factory=list)
    model: str = ""
    finish: str = ""
    """In HTTP's words."""
    usage: Usage = field(default_factory=Usage)
    ignored: tuple[str, ...] = ()
    failure: Failure | None = None
    request_id: str = field(default="", compare=False)
    events: list[str] = field(default_factory=list, compare=False)
    """The kinds of gRPC's events; deltas of a kind, of which any number may be joined, once."""
    sequence_number: int = field(default=0, compare=False)
    """Of the last event, over gRPC."""
    comments: int = field(default=0, compare=False)
    """What keeps a stream alive: lines over HTTP, heartbeats over gRPC."""

    def add_text(self, text: str) -> None:
        self.text += text
        self.chunks += bool(text)

    def begin_call(self, index: int, id: str, name: str) -> None:
        assert index == len(self.calls), "calls are counted from 0, without gaps"
        self.calls.append(Call(id, name))

    def add_arguments(self, index: int, fragment: str) -> None:
        call = self.calls[index]
        self.calls[index] = replace(call, fragments=(*call.fragments, fragment))

    @property
    def outcome(self) -> str | Failure:
        """The text of an answer that is whole, or what went wrong."""
        return self.text if self.failure is None else self.failure

    @property
    def message(self) -> Message:
        """The answer, as a client sends it back."""
        text = (TextPart(self.text),) if self.text else ()
        calls = (ToolCallPart(call.id, call.name, call.arguments) for call in self.calls)
        return Message(Role.ASSISTANT, (*text, *calls))


class Reading(ABC):
    """A call whose answer is read piece by piece, through either API."""

    reply: Reply

    @abstractmethod
    async def read(self) -> bool:
        """Take the next piece of the answer; False at its end."""

    async def until_text(self) -> None:
        """Wait for text of the answer."""
        while not self.reply.text:
            assert await self.read(), self.reply.failure or "no text"

    async def finish(self) -> Reply:
        """Wait for the end of the call."""
        while await self.read():
            pass
        return self.reply
