"""Parses JSON from callers. Pure.

Stricter than the standard library: NaN and Infinity are refused in any form, since no later step
could write them out as JSON; and nesting is limited, since later steps recurse.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn


class NotJsonError(ValueError):
    """The text is not JSON."""


class TooNestedError(ValueError):
    """The text has more levels, or more values, than allowed."""


# The alternative for an unterminated string consumes the rest of the text, so that this stays
# linear.
_TEXTS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_HALVES: Final = re.compile(r"\\u[dD]")
_BRACKETS: Final = re.compile(r"[\[\]{}]")


def parse_strict(text: str, *, levels: int, values: int | None = None) -> Any:
    """Parse JSON with at most `levels` levels and, if given, about `values` values.

    Half of an escaped surrogate pair, as left by cutting a text in JavaScript, is not valid Unicode
    and could not be written out again: it becomes U+FFFD. Raises NotJsonError, TooNestedError.
    """
    _check_shape(text, levels, values)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        # Not chained: the error contains the whole text.
        raise NotJsonError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise NotJsonError from None
    return _repaired(value) if _HALVES.search(text) else value


def _check_shape(text: str, levels: int, values: int | None) -> None:
    """Raise TooNestedError before the text is parsed."""
    opened = text.count("[") + text.count("{")
    if opened <= levels and (values is None or opened + text.count(",") <= values):
        return
    # The content of strings does not count.
    bare = _TEXTS.sub("", text)
    if values is not None and bare.count("[") + bare.count("{") + bare.count(",") > values:
        raise TooNestedError
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        if bracket in "[{":
            depth += 1
            if depth > levels:
                raise TooNestedError
        else:
            depth -= 1


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    if isinstance(value, dict):
        return {_repaired(name): _repaired(item) for name, item in value.items()}
    return value
