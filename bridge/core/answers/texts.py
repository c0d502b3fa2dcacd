"""The JSON in which the stores keep what they are given."""

from __future__ import annotations

import json
from typing import Any

from bridge.core.contract import BOUNDS
from bridge.core.validation import NotJsonError, TooNestedError, parse_strict


class DamagedError(Exception):
    """What is stored is not what was stored."""


def dumps(value: object) -> str:
    """Serialize a value for storage, in ASCII."""
    return json.dumps(value, separators=(",", ":"))


def loads(text: str) -> Any:
    """Parse a stored value; raises DamagedError if it is invalid."""
    try:
        # A few more levels than a request may have: a response contains parts of one.
        return parse_strict(text, levels=2 * BOUNDS.json_levels)
    except (NotJsonError, TooNestedError) as error:
        raise DamagedError("a stored response is not JSON") from error
