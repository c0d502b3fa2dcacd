"""The names of request fields in OpenAI's APIs, for the errors of the shared validation rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bridge.core.contract import FieldNames, Place


def names_by(table: Mapping[str, str], of_call: Callable[[str, str], str]) -> FieldNames:
    """Return the names of fields: those outside messages by a table, the others by their origin.

    `of_call` names a field of a call or of its result, by its origin and the end of the path.
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
