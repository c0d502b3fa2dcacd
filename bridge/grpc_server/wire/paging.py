"""Pages of a list (AIP-158). Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from bridge.core.contract import InvalidRequestError

_T = TypeVar("_T")


def page_of(
    items: Sequence[_T], size: int, token: str, id_of: Callable[[_T], str]
) -> tuple[Sequence[_T], str]:
    """Return a page of `items` and the token of the next one, "" if it is the last.

    A token is the id of the last item of its page, so that items added before it move none of
    those after it. A `size` of 0 means all. Raises InvalidRequestError for a negative size, and for
    a token whose item is not in the list.
    """
    if size < 0:
        raise InvalidRequestError("'page_size' must be 0 or more.", field="page_size")
    start = 0
    if token:
        places = [place for place, item in enumerate(items, 1) if id_of(item) == token]
        if not places:
            raise InvalidRequestError(
                "'page_token' is not a next_page_token of this list, or its page is gone. "
                "Omit it to start with the first page.",
                field="page_token",
            )
        start = places[0]
    page = items[start : start + size] if size else items[start:]
    more = start + len(page) < len(items)
    return page, id_of(page[-1]) if more and page else ""
