from __future__ import annotations

import pytest

from bridge.core.contract import InvalidRequestError
from bridge.grpc_server.wire.paging import page_of

ITEMS = ("a", "b", "c", "d", "e")


def page(size: int = 0, token: str = "", items: tuple[str, ...] = ITEMS) -> tuple[str, str]:
    got, following = page_of(items, size, token, str)
    return "".join(got), following


@pytest.mark.parametrize(
    ("size", "token", "expected"),
    [
        (0, "", ("abcde", "")),
        (5, "", ("abcde", "")),
        (99, "", ("abcde", "")),
        (2, "", ("ab", "b")),
        (2, "b", ("cd", "d")),
        (2, "d", ("e", "")),
        (0, "d", ("e", "")),
        (2, "e", ("", "")),
    ],
)
def test_a_page(size: int, token: str, expected: tuple[str, str]) -> None:
    assert page(size, token) == expected


def test_an_empty_list_has_one_empty_page() -> None:
    assert page(2, items=()) == ("", "")


def test_what_is_added_in_front_moves_no_later_page() -> None:
    _, token = page(2)
    assert page(2, token, ("new", *ITEMS)) == ("cd", "d")


@pytest.mark.parametrize(
    ("size", "token", "field"), [(-1, "", "page_size"), (1, "x", "page_token")]
)
def test_what_is_no_page_is_refused(size: int, token: str, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        page(size, token)
    assert caught.value.field == field
