from __future__ import annotations

import json

import pytest

from bridge.core.validation.strict_json import NotJsonError, TooNestedError, parse_strict


@pytest.mark.parametrize("text", ["1", '"a"', "[]", '{"a": [1.5, null, true]}', '"[[[["'])
def test_json_is_parsed_as_the_standard_library_does(text: str) -> None:
    assert parse_strict(text, levels=2) == json.loads(text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999"])
def test_what_cannot_be_written_out_again_is_no_json(text: str) -> None:
    with pytest.raises(NotJsonError):
        parse_strict(text, levels=9)


def test_the_place_of_a_mistake_is_named_and_nothing_of_the_text() -> None:
    with pytest.raises(NotJsonError, match=r"^line 2, column 1: ") as caught:
        parse_strict('{"a": 1,\nsecret}', levels=9)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_levels_are_counted_and_what_stands_in_texts_is_not() -> None:
    assert parse_strict("[[1], [2], [3]]", levels=2) == [[1], [2], [3]]
    assert parse_strict(r'["[[[", "\"{{{", []]', levels=2) == ["[[[", '"{{{', []]
    with pytest.raises(TooNestedError):
        parse_strict("[[[]]]", levels=2)


def test_far_too_many_levels_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(TooNestedError):
        parse_strict("[" * 1_000_000, levels=100)


def test_values_are_counted_where_a_number_is_given() -> None:
    assert len(parse_strict("[1, 2, 3]", levels=1, values=3)) == 3
    assert parse_strict('["1, 2, 3, 4, 5"]', levels=1, values=3) == ["1, 2, 3, 4, 5"]
    with pytest.raises(TooNestedError):
        parse_strict("[1, 2, 3, 4]", levels=1, values=3)


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    value = parse_strict(r'{"\ud83d": ["a\ude00", "\ud83d\ude00"]}', levels=9)
    assert value == {"\ufffd": ["a\ufffd", "\U0001f600"]}
    json.dumps(value, ensure_ascii=False).encode()
