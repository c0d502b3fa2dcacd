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

    def __bool__(self) -> bool:
        return bool(self._found)

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
        found = (error, *error.others)
        # Their tracebacks hold the request: without them it is freed as soon as its call ends.
        error.others = ()
        self._found += (each.with_traceback(None) for each in found)
        if len(self._found) >= MAX_FAULTS:
            self.raise_any()
        return True

    def raise_any(self) -> None:
        """Raise the first InvalidRequestError that was found, if any, with the others."""
        distinct: dict[tuple[str | None, str], InvalidRequestError] = {}
        while self._found:
            distinct.setdefault((self._found[0].field, self._found[0].message), self._found.pop(0))
        if distinct:
            first, *others = distinct.values()
            first.others = tuple(others[: MAX_FAULTS - 1])
            distinct.clear()
            try:
                raise first
            finally:
                # Its traceback holds this frame.
                del first, others
