"""Parses a line typed in a conversation: a message, or a chat command. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

HELP: Final = """\
/clear or /new starts over, /help prints this, /quit or Ctrl-D exits; Ctrl-C cancels an answer.
Alt-Enter adds a line; pasted text is one message. Type // to send a message that starts with /."""


class Command(Enum):
    """A command of the chat itself; nothing is sent to the model."""

    CLEAR = auto()
    HELP = auto()
    QUIT = auto()


@dataclass(frozen=True, slots=True)
class Say:
    """A message for the model."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """An unknown command. It is not sent to the model: a message costs money."""

    name: str

    def __str__(self) -> str:
        name = self.name if len(self.name) <= _SHOWN else f"{self.name[:_SHOWN]}…"
        return (
            f"Unknown command {name}. /help lists the commands. Type // to send a message that "
            "starts with /."
        )


Entered: TypeAlias = Command | Say | Unknown | None

_SHOWN: Final = 40
_COMMANDS: Final = {
    "/clear": Command.CLEAR,
    "/new": Command.CLEAR,
    "/help": Command.HELP,
    "/quit": Command.QUIT,
    "/exit": Command.QUIT,
}


def entered(text: str) -> Entered:
    """Parse a line; None if it is blank."""
    text = text.strip()
    if text.startswith("//"):
        return Say(text[1:])
    if text.startswith("/"):
        return _COMMANDS.get(text) or Unknown(text.split()[0])
    return Say(text) if text else None
