"""What is wrong with the settings, in a line each for the person who wrote them. Pure."""

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
"""The flags of `bridge serve` by the setting that each is for."""

CLIENT_KEY: Final = "BRIDGE_API_KEY"
"""The key that the commands which ask a server send. It is none of the server's settings."""

_PREFIX: Final = "BRIDGE_"
_SHOWN: Final = 60
"""How much of a wrong value is repeated."""
_LIKE: Final = 0.75
"""How alike two names must be for the one to be a slip for the other; 1 is the same."""


def wrong_values(error: ValidationError) -> list[str]:
    """Say of each wrong value which setting it is, what was given and what is allowed."""
    return [_wrong_value(problem) for problem in error.errors(include_url=False)]


def _wrong_value(problem: ErrorDetails) -> str:
    own_words = str(problem.get("ctx", {}).get("error", ""))
    if not problem["loc"]:
        # Of several that do not fit together, and names them.
        return f"{own_words}."
    setting = str(problem["loc"][0]).lower()
    name = setting.upper()
    if flag := FLAGS.get(setting):
        name = f"{name} ({flag})"
    if own_words:
        # They say what is wrong of a value that may hold a secret.
        return f"{name}: {own_words}."
    given = str(problem["input"])
    shown = repr(given if len(given) <= _SHOWN else f"{given[:_SHOWN]}…")
    return f"{name} is {shown}, and must be {allowed_in(Settings.model_fields[setting])}."


def allowed_in(field: FieldInfo) -> str:
    """What a setting takes, in a few words."""
    kind = _kind(field.annotation)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind is bool:
        return "1 or 0"
    if kind is Path:
        return "a path"
    noun = {int: "a whole number", float: "a number"}.get(kind, "a text")
    return " ".join([noun, *_bounds(field.metadata)])


def _kind(annotation: Any) -> Any:
    if get_origin(annotation) in (types.UnionType, Union):
        (annotation,) = (kind for kind in get_args(annotation) if kind is not type(None))
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
    """Say of the variables that look like settings and are none, a line each, what was meant.

    Those that are like no setting may be another program's: one line names them all.
    """
    settings = {name.upper() for name in Settings.model_fields}
    known = {*settings, CLIENT_KEY}
    lines, strange = [], []
    for name in sorted(environment):
        # Settings are found whatever their case.
        upper = name.upper()
        if not upper.startswith(_PREFIX) or upper in known:
            continue
        meant = _meant(upper, settings)
        if meant is None:
            strange.append(name)
        else:
            lines.append(f"{name} is no setting and has no effect. Did you mean {meant}?")
    if strange:
        are = "is no setting and has" if len(strange) == 1 else "are no settings and have"
        lines.append(f"{', '.join(strange)} {are} no effect (docs/settings.md lists all).")
    return lines


def _meant(name: str, settings: Iterable[str]) -> str | None:
    settings = sorted(settings)
    bare = name.removeprefix(_PREFIX)
    if bare in settings:
        return bare
    # The prefix that all have would make any two of them alike.
    rest = {setting.removeprefix(_PREFIX): setting for setting in settings}
    close = get_close_matches(bare, rest, n=1, cutoff=_LIKE)
    return rest[close[0]] if close else None
