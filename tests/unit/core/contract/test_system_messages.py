from __future__ import annotations

import pytest

from bridge.core.contract.request import Message, Part, Role, TextPart, ToolCallPart, ToolResultPart
from bridge.core.contract.system_messages import placed, system_part

CALL = ToolCallPart("c1", "look", "{}")
RESULT = ToolResultPart("c1")


def told(*texts: str) -> Message:
    return Message(Role.USER, (system_part(texts),))


def user(*parts: Part | str) -> Message:
    return Message(Role.USER, tuple(map(_part, parts)))


def assistant(*parts: Part | str) -> Message:
    return Message(Role.ASSISTANT, tuple(map(_part, parts)))


def _part(part: Part | str) -> Part:
    return TextPart(part) if isinstance(part, str) else part


B = TextPart("b", system=True)


@pytest.mark.parametrize(
    ("given", "messages", "system", "kept"),
    [
        (None, [], None, []),
        (None, [user("u")], None, [user("u")]),
        ("s", [user("u")], "s", [user("u")]),
        (" \n", [user("u")], None, [user("u")]),
        (None, [told("a"), told("b"), user("u")], "a\nb", [user("u")]),
        (None, [told("a", "b"), user("u")], "a\nb", [user("u")]),
        ("s", [told("a"), user("u")], "s\na", [user("u")]),
        (None, [told(""), told(" "), user("u")], None, [user("u")]),
        ("s", [told("a")], "s\na", []),
        (None, [told("a"), assistant("x"), user("u")], "a", [assistant("x"), user("u")]),
        (None, [user("u"), told("b")], None, [user("u", B)]),
        (None, [user("u"), assistant("x"), told("b")], None, [user("u"), assistant("x"), user(B)]),
        (
            None,
            [told("a"), user("u"), assistant("x"), told("b"), user("v")],
            "a",
            [user("u"), assistant("x"), user(B, "v")],
        ),
        (
            None,
            [user("u"), assistant("x"), user("v"), told("b"), user("w")],
            None,
            [user("u"), assistant("x"), user("v", B, "w")],
        ),
        (
            None,
            [user("u"), assistant("x"), told("b"), assistant("y"), user("v")],
            None,
            [user("u"), assistant("x"), user(B), assistant("y"), user("v")],
        ),
        (
            None,
            [user("u"), assistant("x"), told("b"), told("b"), user("v")],
            None,
            [user("u"), assistant("x"), user(B, B, "v")],
        ),
        # Results stay in the message right after their calls.
        (
            None,
            [user("u"), assistant(CALL), told("b"), user(RESULT)],
            None,
            [user("u"), assistant(CALL), user(B, RESULT)],
        ),
        (
            None,
            [user("u"), assistant(CALL), user(RESULT), told("b"), user("v")],
            None,
            [user("u"), assistant(CALL), user(RESULT, B, "v")],
        ),
        # A blank one says nothing.
        (None, [user("u"), told(" \n"), user("v")], None, [user("u"), user("v")]),
        (None, [user("u"), assistant("x"), told("")], None, [user("u"), assistant("x")]),
        # Neighbours without any are the caller's own matter.
        (None, [user("u"), user("v")], None, [user("u"), user("v")]),
        (None, [user()], None, [user()]),
    ],
)
def test_a_system_message_keeps_its_place_unless_it_comes_first(
    given: str | None, messages: list[Message], system: str | None, kept: list[Message]
) -> None:
    assert placed(given, messages) == (system, tuple(kept))


def test_a_turn_is_where_the_user_wrote_it() -> None:
    def at(message: Message, origin: str) -> Message:
        return Message(message.role, message.parts, origin=origin)

    _, messages = placed(
        None,
        [
            at(told("a"), "0"),
            at(user("u"), "1"),
            at(told("b"), "2"),
            at(assistant("x"), "3"),
            at(told("b"), "4"),
            at(user("v"), "5"),
            at(assistant("y"), "6"),
            at(told("b"), "7"),
        ],
    )
    assert [message.origin for message in messages] == ["1", "3", "5", "6", "7"]
