"""The lines on the CLI's stdin that carry turns, and what was sent of a conversation. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bridge.core.claude.reading import Spending
from bridge.core.claude.turns import BREAKPOINT, Turn
from bridge.core.claude.wire import Wire
from bridge.core.contract import Role


@dataclass(frozen=True, slots=True)
class UserLine:
    """A line on the CLI's stdin that carries a user turn."""

    id: str
    """The line's own uuid, by which it can be rewound."""
    wire: Wire
    rewindable: bool
    """False for tool results: the CLI rewinds those with the turn they answer."""


def _new_id() -> str:
    return str(uuid.uuid4())


def user_line(
    turn: Turn,
    *,
    query: bool,
    cache_control: Wire | None = None,
    new_id: Callable[[], str] = _new_id,
) -> UserLine:
    """Return a user turn; with `query` the model answers it, without it is history.

    Every line is marked `client_composed`: otherwise the CLI would run slash commands in it and
    read local files that it mentions. `cache_control` is set where its caller wants it, or else on
    its last block.
    """
    line_id = new_id()
    content = _cached(turn, cache_control)
    wire: Wire = {
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "session_id": "default",
        "client_composed": True,
        "uuid": line_id,
    }
    if not query:
        wire["shouldQuery"] = False
    return UserLine(line_id, wire, rewindable=not turn.tool_results)


def _cached(turn: Turn, cache_control: Wire | None) -> list[Wire]:
    content = list(turn.content)
    if cache_control is not None:
        at = len(content) - 1 if turn.cached_to is None else turn.cached_to
        content[at] = {**content[at], BREAKPOINT: cache_control}
    return content


def assistant_line(turn: Turn, *, model: str = "", cache_control: Wire | None = None) -> Wire:
    """Return an earlier answer, unchanged; `model` is the one that gave it.

    The CLI drops the thinking of any other model than the one that is asked now.
    """
    message: Wire = {"role": "assistant", "content": _cached(turn, cache_control)}
    if model:
        message["model"] = model
    return {
        "type": "assistant",
        "message": message,
        "parent_tool_use_id": None,
        "session_id": "default",
    }


def replay_lines(
    turns: Sequence[Turn],
    *,
    model: str = "",
    cache_control: Wire | None = None,
    new_id: Callable[[], str] = _new_id,
) -> Iterator[UserLine | Wire]:
    """Return the lines that add earlier turns to an empty conversation, in order.

    `cache_control` is set where the caller wants it, if anywhere; `model` is the one that gave the
    answers.
    """
    for turn in turns:
        control = None if turn.cached_to is None else cache_control
        if turn.role is Role.USER:
            yield user_line(turn, query=False, cache_control=control, new_id=new_id)
        else:
            yield assistant_line(turn, model=model, cache_control=control)


class Conversation:
    """What was sent to the CLI in a conversation, and which of its turns are still open."""

    def __init__(self, cache_control: Wire | None = None) -> None:
        """Mark the first question of the conversation with `cache_control`."""
        self._cache_control = cache_control
        self._marked = False
        self.lines: list[UserLine] = []
        """The user lines in it, the newest last."""
        self.open_turns = 0
        """Turns whose `result` line has not arrived."""
        self.last_result: Wire = {}
        self.spending = Spending()
        self.used_builtin_tool = False
        """Whether one of the CLI's own tools was called in it."""

    def question(self, turn: Turn) -> UserLine:
        """Return the line of a turn that the model is to answer."""
        # The API accepts four cache breakpoints per request and the CLI sets three. One in a user
        # line stays there for the life of the conversation, so only one line has it.
        mark = None if self._marked else self._cache_control
        self._marked = True
        return user_line(turn, query=True, cache_control=mark)

    def history(self, turns: Sequence[Turn], model: str) -> Iterator[UserLine | Wire]:
        """Return the lines of earlier turns; `model` is the one that gave the answers."""
        self._marked = self._marked or any(turn.cached_to is not None for turn in turns)
        return replay_lines(turns, model=model, cache_control=self._cache_control)

    def sent(self, line: UserLine) -> None:
        """Record a user line that is being sent; it opens a turn."""
        self.lines.append(line)
        self.open_turns += 1

    def ended(self, result: Wire) -> None:
        """Record the end of a turn."""
        self.open_turns -= 1
        self.last_result = result

    def settled(self) -> bool:
        """Whether no turn is open."""
        return self.open_turns <= 0

    def to_rewind(self) -> UserLine | None:
        """Return the line to rewind to next, with all that follows it; None if there is none."""
        while self.lines:
            if self.lines[-1].rewindable:
                return self.lines[-1]
            if len(self.lines) == 1:
                return None
            # Tool results are rewound with the turn that made the calls.
            self.lines.pop()
        return None

    def wiped(self) -> bool:
        """Reset, so that the next question is the first again; return whether nothing else is
        left."""
        self._marked = False
        return not self.lines and not self.open_turns
