"""What callers of OpenAI's APIs call the fields that the rules of a request speak of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bridge.core.contract import FieldNames, Place


def names_by(table: Mapping[str, str], of_call: Callable[[str, str], str]) -> FieldNames:
    """Name what is in no message by a table of patterns, and the rest by where it was written.

    `of_call` names what belongs to a call or to its result, by where that stands and by the end
    of the path.
    """
    patterns = [(re.compile(path), name) for path, name in table.items()]

    def name(place: Place) -> str:
        if place.rest.startswith(".tool_"):
            return of_call(place.origin, place.rest)
        if place.origin:
            return place.origin if place.rest else place.origin.partition(".")[0]
        for pattern, template in patterns:
            if match := pattern.fullmatch(place.path):
                return match.expand(template)
        return place.path

    return name
