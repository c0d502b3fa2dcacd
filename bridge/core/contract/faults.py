"""Collecting everything that is wrong with a request, so that one reply can name it all."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from bridge.core.contract.errors import InvalidRequestError

MAX_FAULTS: Final = 20
"""How many faults of a request are looked for."""


class Faults:
    """The faults found by checks that do not build on each other.

    Each check stands in a `with` block of its own, after which the next one is made all the same;
    `raise_any()` comes before whatever needs them all to have passed.
    """

    def __init__(self) -> None:
        self._found: list[InvalidRequestError] = []

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Keep an InvalidRequestError for later; raise the first of them where there are many."""
        if not isinstance(error, InvalidRequestError):
            return False
        self._found += (error, *error.others)
        if len(self._found) >= MAX_FAULTS:
            self.raise_any()
        return True

    def raise_any(self) -> None:
        """Raise the first InvalidRequestError that was found, if any, with the others."""
        distinct: dict[tuple[str | None, str], InvalidRequestError] = {}
        for error in self._found:
            distinct.setdefault((error.field, error.message), error)
        if distinct:
            first, *others = distinct.values()
            first.others = tuple(others[: MAX_FAULTS - 1])
            raise first
