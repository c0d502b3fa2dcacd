from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.claude import wire
from bridge.core.claude.wire import encoded, is_long, long_encoded

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "user", "message": {"role": "user", "content": list(blocks)}}


@given(st.dictionaries(st.text(max_size=9), VALUES))
def test_a_long_line_is_encoded_like_any_other(line: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_LONG", 3)
        assert json.loads(long_encoded(line)) == json.loads(encoded(line)) == line
        assert long_encoded(line).count(b"\n") == 1


def test_a_long_text_may_have_any_characters() -> None:
    line = user({"type": "text", "text": '"\\\n\ud800\N{GRINNING FACE}' * 400_000})
    assert is_long(line)
    assert long_encoded(line) == encoded(line)


@pytest.mark.parametrize(
    "line",
    [
        {"type": "control_request", "request": {"subtype": "interrupt"}},
        user({"type": "text", "text": "Hello"}),
        user({"type": "image", "source": {"type": "base64", "data": "AAAA"}}),
        {"type": "user", "message": {"content": "Hello"}},
    ],
)
def test_an_ordinary_line_is_not_long(line: dict[str, Any]) -> None:
    assert not is_long(line)


TEXT = {"type": "text", "text": "x" * 200_000}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"data": "A" * 2_000_000}},
        {"type": "tool_result", "content": [{"type": "text", "text": "x" * 2_000_000}]},
        {"type": "tool_result", "content": [TEXT] * 9},
        {"type": "tool_use", "input": {"a": [{"b": "x" * 2_000_000}]}},
        {"type": "tool_use", "input": {"a": list(range(100_000))}},
    ],
)
def test_a_line_is_long_wherever_its_length_is(block: dict[str, Any]) -> None:
    assert is_long(user(block))


def test_many_shorter_texts_make_a_long_line() -> None:
    assert is_long(user(*[TEXT] * 9))
