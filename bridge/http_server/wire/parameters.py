"""How each parameter is handled: supported, ignored silently, ignored and reported, or refused.

The annotation of a field of a wire model says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bridge.core.contract import Faults, UnsupportedError
from bridge.core.validation import without_effect
from bridge.http_server.wire.model import WireModel


class Treatment(Enum):
    """How a parameter is handled."""

    HONOURED = "honoured"
    SILENT = "silent"
    """Ignored, without a word: a hint, or bookkeeping on the vendor's side."""
    NAMED = "named"
    """Ignored, and named in the reply unless its value changes nothing."""
    REFUSED = "refused"
    """An error, unless its value changes nothing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A treatment, and the values besides null that have no effect anyway."""

    treatment: Treatment
    neutral: tuple[Any, ...] = ()

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe a refused parameter by the values it may have."""
        if self.treatment is Treatment.REFUSED:
            return {"enum": [None, *self.neutral]}
        return handler(core_schema)


_HONOURED: Final = Rule(Treatment.HONOURED)
SILENT: Final = Rule(Treatment.SILENT)
NAMED: Final = Rule(Treatment.NAMED)
REFUSED: Final = Rule(Treatment.REFUSED)


def named_unless(*neutral: Any) -> Rule:
    """Ignored and reported, except for these values."""
    return Rule(Treatment.NAMED, neutral)


def refused_unless(*neutral: Any) -> Rule:
    """Refused, except for these values."""
    return Rule(Treatment.REFUSED, neutral)


_UNKNOWN: Final = named_unless([], {}, "")
"""What an object has beyond its fields: many clients add empty ones."""

_CACHE_HINTS: Final = frozenset({"prompt_cache_breakpoint", "cache_control"})
"""Marks for a prompt cache, OpenAI's and Anthropic's. The bridge sets its own."""


_HINTS: Final = _CACHE_HINTS | {"internal_chat_message_metadata_passthrough"}
"""The last one is Codex's own bookkeeping."""


@cache
def rules_of(model: type[WireModel]) -> Mapping[str, Rule]:
    """The rules of an object's fields, from their annotations; HONOURED without one."""
    return {
        field.alias or name: next(
            (mark for mark in field.metadata if isinstance(mark, Rule)), _HONOURED
        )
        for name, field in model.model_fields.items()
    }


@cache
def _attributes_of(model: type[WireModel]) -> Mapping[str, str]:
    return {field.alias or name: name for name, field in model.model_fields.items()}


class Ignored:
    """The parameters of a request that have no effect; in strict mode the first is an error."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._names: dict[str, None] = {}

    def add(
        self, name: str, field: str | None = None, *, why: str = "has no effect on this server"
    ) -> None:
        """Add one by its name; `field` is its place if that is more than the name."""
        if self._strict:
            raise without_effect(field or name, why)
        self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names, each once."""
        return tuple(self._names)


def apply_rules(wire: WireModel, body: object, ignored: Ignored) -> None:
    """Raise for refused parameters and record the ignored ones, in all objects of a body.

    `wire` was parsed from `body`. Null counts as absent. Unknown names in an object are ignored and
    reported.
    """
    assert isinstance(body, dict)
    _apply(wire, body, ignored, "", "")


def _apply(
    wire: WireModel, given: Mapping[str, Any], ignored: Ignored, kind: str, where: str
) -> None:
    """Handle one object: `where` is its path, and `kind` the same without indexes."""
    if wire.passed_over:
        return
    rules, attributes, idle = rules_of(type(wire)), _attributes_of(type(wire)), wire.idle()
    faults = Faults()
    for name, value in given.items():
        rule = NAMED if name in idle else rules.get(name)
        if rule is None:
            if where and name in _HINTS:
                continue
            rule = _UNKNOWN if where else NAMED
        if value is None or value in rule.neutral:
            continue
        with faults:
            match rule.treatment:
                case Treatment.REFUSED:
                    raise UnsupportedError(
                        f"This server does not support '{where}{name}' with this value. Omit it.",
                        field=f"{where}{name}",
                    )
                case Treatment.NAMED:
                    ignored.add(f"{kind}{name}", f"{where}{name}")
                case Treatment.HONOURED:
                    inner = getattr(wire, attributes[name])
                    _apply_inside(inner, value, ignored, f"{kind}{name}", f"{where}{name}")
                case Treatment.SILENT:
                    pass
    faults.raise_any()


def _apply_inside(wire: object, given: object, ignored: Ignored, kind: str, where: str) -> None:
    if isinstance(wire, WireModel) and isinstance(given, dict):
        _apply(wire, given, ignored, f"{kind}.", f"{where}.")
    elif isinstance(wire, list) and isinstance(given, list):
        for index, (inner, value) in enumerate(zip(wire, given, strict=True)):
            _apply_inside(inner, value, ignored, kind, f"{where}[{index}]")
