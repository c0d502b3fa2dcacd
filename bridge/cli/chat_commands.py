"""What a line typed in a conversation means: a message, or a command of the chat itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

HELP: Final = """\
/clear or /new starts over, /help prints this, /quit or Ctrl-D ends; Ctrl-C cancels an answer.
Alt-Enter adds a line; a pasted text is one message. // at the beginning sends a line that begins \
with /."""


class Command(Enum):
    """What is done here; nothing of it goes to the model."""

    CLEAR = auto()
    HELP = auto()
    QUIT = auto()


@dataclass(frozen=True, slots=True)
class Say:
    """A message for the model."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Begins like a command, and is none: not sent, since a message costs."""

    name: str

    def __str__(self) -> str:
        name = self.name if len(self.name) <= _SHOWN else f"{self.name[:_SHOWN]}…"
        return (
            f"Unknown command {name}. /help lists the commands. To send a line that begins with /, "
            "put another / before it."
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
    """What was meant; None where there is nothing but blanks."""
    text = text.strip()
    if text.startswith("//"):
        return Say(text[1:])
    if text.startswith("/"):
        return _COMMANDS.get(text) or Unknown(text.split()[0])
    return Say(text) if text else None
