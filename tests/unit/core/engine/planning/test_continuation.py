"""When a request continues a conversation: which differences matter and which do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.core.claude.turn_settings import Profile
from bridge.core.claude.turns import turns_of
from bridge.core.contract.request import (
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    Role,
    SearchResultPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.core.engine.planning.continuation import Scope, answers_exactly, call_ids, fingerprint
from tests.support.harness import assistant, user

TOOL = Tool("f", "does", {"type": "object"})
SCOPE = Scope("key", Profile("system"), "opus", "high", True, (TOOL,))
CALL = ToolCallPart("c1", "f", '{"a":1,"b":[2]}')
PNG = InlineData("image/png", "AAAA")


def of(*messages: Message, scope: Scope = SCOPE) -> str:
    return fingerprint(scope, turns_of(messages))


ALIKE = {
    "the same": ((user("a"), assistant("b")), (user("a"), assistant("b"))),
    "an answer in pieces": ((user("a"), assistant("b", "c")), (user("a"), assistant("bc"))),
    "an empty text beside calls": (
        (user("a"), assistant("", CALL)),
        (user("a"), assistant(CALL)),
    ),
    "an answer without content": ((user("a"), assistant()), (user("a"), assistant(""))),
    "the layout of arguments": (
        (user("a"), assistant(CALL)),
        (user("a"), assistant(replace(CALL, arguments='{ "b": [2],\n "a": 1 }'))),
    ),
    "text before or after a call": (
        (user("a"), assistant("t", CALL)),
        (user("a"), assistant(CALL, "t")),
    ),
    "white space at the end of an answer": (
        (user("a"), assistant("b \n\n")),
        (user("a"), assistant("b")),
    ),
    "an empty result": (
        (user("a"), assistant(CALL), user(ToolResultPart("c1"))),
        (user("a"), assistant(CALL), user(ToolResultPart("c1", (TextPart(""),)))),
    ),
    "two messages of one role, or one of two parts": (
        (user("a"), user("b")),
        (user("a", "b"),),
    ),
    "where the caller wrote it": (
        (Message(Role.USER, (TextPart("a"),), "messages[0]"),),
        (Message(Role.USER, (TextPart("a"),), "messages[7]"),),
    ),
}

UNLIKE = {
    "another text": ((user("a"),), (user("A"),)),
    "white space in an answer": ((user("a"), assistant("b c")), (user("a"), assistant("b  c"))),
    "white space before an answer": ((user("a"), assistant("b")), (user("a"), assistant(" b"))),
    "white space of the user": ((user("a"),), (user("a "),)),
    "text at another place": ((user("a", "b"),), (user("ab"),)),
    "one turn more": ((user("a"),), (user("a"), assistant("b"))),
    "another order": (
        (user("a"), assistant("b"), user("c")),
        (user("c"), assistant("b"), user("a")),
    ),
    "a system message or the user's": (
        (user(TextPart("a", system=True)),),
        (user("a"),),
    ),
    "a system message or its mark": (
        (user(TextPart("a", system=True)),),
        (user("<operator-system-message>\na\n</operator-system-message>"),),
    ),
    "another speaker": ((user("x"), assistant("a")), (user("x"), user("a"))),
    "other arguments": (
        (user("a"), assistant(CALL)),
        (user("a"), assistant(replace(CALL, arguments='{"a":1,"b":[3]}'))),
    ),
    "a number or its text": (
        (user("a"), assistant(replace(CALL, arguments='{"a":1}'))),
        (user("a"), assistant(replace(CALL, arguments='{"a":"1"}'))),
    ),
    "another tool": (
        (user("a"), assistant(CALL)),
        (user("a"), assistant(replace(CALL, name="g"))),
    ),
    "another call id": (
        (user("a"), assistant(CALL)),
        (user("a"), assistant(replace(CALL, id="c2"))),
    ),
    "another result": (
        (user("a"), assistant(CALL), user(ToolResultPart("c1", (TextPart("x"),)))),
        (user("a"), assistant(CALL), user(ToolResultPart("c1", (TextPart("y"),)))),
    ),
    "a result that failed": (
        (user("a"), assistant(CALL), user(ToolResultPart("c1", (TextPart("x"),)))),
        (user("a"), assistant(CALL), user(ToolResultPart("c1", (TextPart("x"),), is_error=True))),
    ),
    "another image": (
        (user(ImagePart(PNG)),),
        (user(ImagePart(InlineData("image/png", "BBBB"))),),
    ),
    "an image by address": ((user(ImagePart(PNG)),), (user(ImagePart(UrlSource("AAAA"))),)),
    "a document or an image": ((user(ImagePart(PNG)),), (user(DocumentPart(PNG)),)),
    "the context of a document": (
        (user(DocumentPart(PNG, "a", context="b")),),
        (user(DocumentPart(PNG, "a", context="c")),),
    ),
    "whether a document is cited": (
        (user(DocumentPart(PNG, "a")),),
        (user(DocumentPart(PNG, "a", citations=True)),),
    ),
    "a piece of a search result": (
        (user(SearchResultPart("s", "t", (TextPart("a"), TextPart("b")))),),
        (user(SearchResultPart("s", "t", (TextPart("ab"),))),),
    ),
    "the title of a document": (
        (user(DocumentPart(PNG, "a")),),
        (user(DocumentPart(PNG, "b")),),
    ),
}


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=ALIKE)
def test_alike(one: tuple[Message, ...], other: tuple[Message, ...]) -> None:
    assert of(*one) == of(*other)


@pytest.mark.parametrize(("one", "other"), UNLIKE.values(), ids=UNLIKE)
def test_unlike(one: tuple[Message, ...], other: tuple[Message, ...]) -> None:
    assert of(*one) != of(*other)


@pytest.mark.parametrize(
    "other",
    [
        replace(SCOPE, caller="another key"),
        replace(SCOPE, profile=Profile("other")),
        replace(SCOPE, profile=Profile(None)),
        replace(SCOPE, model=None),
        replace(SCOPE, effort=None),
        replace(SCOPE, thinking=False),
        replace(SCOPE, tools=()),
        replace(SCOPE, tools=(replace(TOOL, description="other"),)),
        replace(SCOPE, tools=(replace(TOOL, parameters={"type": "object", "x": 1}),)),
    ],
)
def test_everything_around_the_conversation_counts(other: Scope) -> None:
    assert of(user("a")) != of(user("a"), scope=other)


def test_a_turn_that_waits_is_answered_by_all_of_its_results_alone() -> None:
    other = replace(CALL, id="c2")
    (_, calls) = turns_of((user("a"), assistant(CALL, other)))
    assert call_ids(calls) == ("c1", "c2")

    def answers(*parts: ToolResultPart | str) -> bool:
        (turn,) = turns_of((user(*parts),))
        return answers_exactly(call_ids(calls), turn)

    assert answers(ToolResultPart("c1"), ToolResultPart("c2"))
    assert answers(ToolResultPart("c2"), ToolResultPart("c1"))
    assert not answers(ToolResultPart("c1"))
    assert not answers(ToolResultPart("c1"), ToolResultPart("c1"))
    assert not answers(ToolResultPart("c1"), ToolResultPart("c2"), ToolResultPart("c3"))
    assert not answers(ToolResultPart("c1"), ToolResultPart("c2"), "and?")
