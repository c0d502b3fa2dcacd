"""Error messages for invalid and unknown settings, one line each. Pure."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge.server.settings import Settings

FLAGS: Final[Mapping[str, str]] = {
    "host": "--host",
    "port": "--port",
    "grpc_port": "--grpc-port",
    "bridge_uds": "--uds",
    "bridge_grpc_uds": "--grpc-uds",
    "pool_size": "--pool-size",
    "claude_timeout": "--timeout",
}
"""The flags of `bridge serve`, by setting."""

CLIENT_KEY: Final = "BRIDGE_API_KEY"
"""The key that client commands send; not a setting of the server."""

_PREFIX: Final = "BRIDGE_"
_SHOWN: Final = 60
"""Characters of an invalid value that a message repeats."""
_LIKE: Final = 0.75
"""Similarity from which a name counts as a misspelt setting; 1 is equal."""


def wrong_values(error: ValidationError) -> list[str]:
    """One message per invalid value: the setting, the value and what is allowed."""
    return [_wrong_value(problem) for problem in error.errors(include_url=False)]


def _wrong_value(problem: ErrorDetails) -> str:
    message = str(problem.get("ctx", {}).get("error", ""))
    if not problem["loc"]:
        # About a combination of settings, which it names.
        return f"{message}."
    setting = str(problem["loc"][0]).lower()
    name = setting.upper()
    if flag := FLAGS.get(setting):
        name = f"{name} ({flag})"
    if message:
        # The value may contain a secret, so only the message is printed.
        return f"{name}: {message}."
    given = str(problem["input"])
    shown = repr(given if len(given) <= _SHOWN else f"{given[:_SHOWN]}…")
    return f"{name} is {shown}, but must be {allowed_in(Settings.model_fields[setting])}."


def allowed_in(field: FieldInfo) -> str:
    """The allowed values of a setting, in a few words."""
    kind = _kind(field.annotation)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind is bool:
        return "1 or 0"
    if kind is Path:
        return "a path"
    noun = {int: "an integer", float: "a number"}.get(kind, "a string")
    return " ".join([noun, *_bounds(field.metadata)])


def _kind(annotation: Any) -> Any:
    if get_origin(annotation) in (types.UnionType, Union):
        (annotation,) = (kind for kind in get_args(annotation) if kind is not type(None))
    if get_origin(annotation) is tuple:
        # Errors are about the items.
        annotation = get_args(annotation)[0]
    return annotation


def _bounds(constraints: Iterable[object]) -> Iterator[str]:
    bounds = {
        name: getattr(rule, name)
        for rule in constraints
        for name in ("ge", "gt", "le")
        if hasattr(rule, name)
    }
    if "ge" in bounds:
        yield f"from {bounds['ge']}" if "le" in bounds else f"of at least {bounds['ge']}"
    if "gt" in bounds:
        yield f"above {bounds['gt']}"
    if "le" in bounds:
        yield f"to {bounds['le']}"


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Warnings about variables that look like settings but are not, with suggestions.

    Those similar to no setting may belong to another program and share one line.
    """
    settings = {name.upper() for name in Settings.model_fields}
    known = {*settings, CLIENT_KEY}
    lines, unknown = [], []
    for name in sorted(environment):
        # Settings are case-insensitive.
        upper = name.upper()
        if not upper.startswith(_PREFIX) or upper in known:
            continue
        meant = _meant(upper, settings)
        if meant is None:
            unknown.append(name)
        else:
            lines.append(f"Unknown setting {name} (ignored). Did you mean {meant}?")
    if unknown:
        noun = "setting" if len(unknown) == 1 else "settings"
        lines.append(f"Unknown {noun} {', '.join(unknown)} (ignored). See docs/settings.md.")
    return lines


def _meant(name: str, settings: Iterable[str]) -> str | None:
    settings = sorted(settings)
    bare = name.removeprefix(_PREFIX)
    if bare in settings:
        return bare
    # Without the common prefix, which would make any two names similar.
    rest = {setting.removeprefix(_PREFIX): setting for setting in settings}
    close = get_close_matches(bare, rest, n=1, cutoff=_LIKE)
    return rest[close[0]] if close else None
