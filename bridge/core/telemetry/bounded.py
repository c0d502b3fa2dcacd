"""Values of metric labels that are not known in advance: each is a series for ever."""

from __future__ import annotations

from typing import Final

MOST_VALUES: Final = 100
"""Values of one label that are counted apart."""
OTHER_VALUES: Final = "other"
"""What all further values are counted as."""


class Bounded:
    """The values of one label, in the order of their first use."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def counted(self, value: str) -> str:
        """Return what a value is counted as."""
        if value not in self._values and len(self._values) >= MOST_VALUES:
            return OTHER_VALUES
        self._values.add(value)
        return value
