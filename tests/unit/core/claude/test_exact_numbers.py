from __future__ import annotations

from typing import Any

import pytest

from bridge.core.claude.exact_numbers import (
    changes_arguments,
    exact_schema,
    has_inexact,
    parsed_exactly,
    survives,
)
from bridge.core.contract import ToolCallPart
from tests.support.harness import assistant, user

LARGE = 2**53 + 1


@pytest.mark.parametrize("digits", ["0", "9007199254740992", "0.1", "1e3", "1000000000000000000"])
def test_a_number_that_a_double_holds_survives(digits: str) -> None:
    assert survives(digits)


@pytest.mark.parametrize("digits", [str(LARGE), "1234567890123456789", "0.12345678901234567890"])
def test_one_that_it_does_not_hold_becomes_its_digits(digits: str) -> None:
    assert not survives(digits)
    assert parsed_exactly(f'{{"id": [{digits}, 1]}}') == ({"id": [digits, 1]}, True)


@pytest.mark.parametrize("text", ['{"a": 1.5}', "[1000000000000000000]", '"1234567890123456789"'])
def test_what_survives_is_left_as_it_is(text: str) -> None:
    value, changed = parsed_exactly(text)
    assert not changed
    assert "'1000" not in repr(value)


def test_calls_of_a_history_are_looked_at() -> None:
    small, large = (ToolCallPart("a", "look", f'{{"id": {n}}}') for n in (1, LARGE))
    assert not changes_arguments([user(str(LARGE)), assistant(small)])
    assert changes_arguments([user("x"), assistant(small, large)])


@pytest.mark.parametrize("value", [LARGE, -LARGE, [{"a": [LARGE]}], 10**400])
def test_one_is_found_at_any_depth(value: Any) -> None:
    assert has_inexact(value)
    assert not has_inexact([{"a": [1, 2**53, 10**18, "x", 1.5, True]}])


def test_a_schema_loses_the_keywords_that_have_one_and_nothing_else() -> None:
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": "integer", "enum": [1, LARGE], "minimum": 0},
            "maximum": {"maximum": LARGE, "type": "integer"},
        },
        "anyOf": [{"required": ["id"]}, {"items": {"const": LARGE}}],
        "default": {"id": LARGE},
    }
    assert exact_schema(schema) == {
        "type": "object",
        "properties": {"id": {"type": "integer", "minimum": 0}, "maximum": {"type": "integer"}},
        "anyOf": [{"required": ["id"]}, {"items": {}}],
    }


def test_a_schema_without_any_is_itself() -> None:
    schema = {"enum": [1, 2]}
    assert exact_schema(schema) is schema
