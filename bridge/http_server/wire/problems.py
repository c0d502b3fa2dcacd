"""Errors of a request that name the field by its path, such as `messages[0].content`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.core.contract import BOUNDS, MAX_FAULTS, InvalidRequestError
from bridge.core.validation import NOT_EMPTY, TOOL_NAME, check_count, invalid, missing
from bridge.http_server.wire.model import WireModel

M = TypeVar("M", bound=WireModel)

_EXPECTED: Mapping[str, str] = {
    "string_type": "a string",
    "string_unicode": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""Errors of type, with what the type is called in JSON."""

_MISSING = "missing"
_ABSENT = (_MISSING, "union_tag_not_found")


def parse(model: type[M], body: object) -> M:
    """Validate a body; raises InvalidRequestError for the invalid fields."""
    if not isinstance(body, dict):
        raise InvalidRequestError("The request body must be a JSON object.", reason="INVALID_TYPE")
    for name, things in (("messages", "messages"), ("input", "items")):
        if isinstance(given := body.get(name), list):
            check_count(things, len(given), BOUNDS.messages, name)
    try:
        return model.model_validate(body)
    except ValidationError as exc:
        places = _by_place(exc.errors(include_url=False, include_input=False), body)
        first, *others = (_from_validation(errors, body) for errors in places[:MAX_FAULTS])
        first.others = tuple(others)
        raise first from exc


def _by_place(errors: Sequence[ErrorDetails], body: object) -> list[list[ErrorDetails]]:
    """Group errors by parameter or, in a list, by item."""
    places: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for error in errors:
        path = _path(error, body)
        in_item = len(path) > 1 and isinstance(path[1], int)
        places.setdefault(path[: 2 if in_item else 1], []).append(error)
    # If an item of a list is invalid, a list was meant, even if other types are allowed.
    meant = {place[:1] for place in places if len(place) > 1}
    return [found for place, found in places.items() if place not in meant]


def _from_validation(errors: Sequence[ErrorDetails], body: object) -> InvalidRequestError:
    # A union reports every alternative that failed. The one that got deepest into the body is
    # what the caller meant; those that failed at the same place are the allowed ones.
    paths = [_path(error, body) for error in errors]
    deepest = max(paths, key=len)
    here = [error for error, path in zip(errors, paths, strict=True) if path == deepest]
    field = dotted(deepest)
    if any(error["type"] in _ABSENT for error in here) or _is_null(body, deepest):
        return missing(field)
    wrong_type = all(error["type"] in _EXPECTED for error in here)
    expected = " or ".join(dict.fromkeys(map(expectation, here)))
    if not wrong_type:
        return invalid(field, expected)
    return InvalidRequestError(
        f"Invalid type for '{field}': expected {expected}.", field=field, reason="INVALID_TYPE"
    )


def _path(error: ErrorDetails, body: object) -> tuple[str | int, ...]:
    """Remove from an error's location what pydantic adds to it: the names of alternatives."""
    path: list[str | int] = []
    here: Any = body
    for step in error["loc"]:
        if _leads_on(here, step):
            here = here[step]
            path.append(step)
    if error["type"] == _MISSING:
        path.append(error["loc"][-1])
    if error["type"].startswith("union_tag"):
        path.append(error["ctx"]["discriminator"].strip("'"))
    return tuple(path)


def _is_null(body: object, path: Sequence[str | int]) -> bool:
    """Whether a field is null, which is the same as absent."""
    if not path or isinstance(path[-1], int):
        return False
    here: Any = body
    for step in path:
        if not _leads_on(here, step):
            return False
        here = here[step]
    return here is None


def _leads_on(here: object, step: str | int) -> bool:
    if isinstance(here, dict):
        return step in here
    return isinstance(here, list) and isinstance(step, int) and step < len(here)


def dotted(path: Sequence[str | int]) -> str:
    """Spell a path, such as `messages[0].content`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def expectation(error: ErrorDetails) -> str:
    """What a value should have been, to follow `expected`."""
    kind = error["type"]
    if kind == "union_tag_invalid":
        return f"one of {error['ctx']['expected_tags']}"
    if kind == "too_long":
        return f"an array of at most {error['ctx']['max_length']}"
    if kind == "too_short":
        return NOT_EMPTY
    if kind == "string_pattern_mismatch":
        return TOOL_NAME
    if kind == "greater_than_equal":
        return f"at least {error['ctx']['ge']:g}"
    if kind == "less_than_equal":
        return f"at most {error['ctx']['le']:g}"
    return _EXPECTED.get(kind) or error["msg"].removeprefix("Input should be ")
