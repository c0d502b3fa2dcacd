"""What becomes of each parameter: honoured, ignored in silence, ignored and named, or refused.

It stands in the annotation of the parameter's field, in the wire model of the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

from bridge.core.contract import UnsupportedError
from bridge.http_server.openai.shared.wire import WireModel


class Treatment(Enum):
    """What becomes of a parameter."""

    HONOURED = "honoured"
    SILENT = "silent"
    """Ignored, without a word: a hint, or bookkeeping on OpenAI's side."""
    NAMED = "named"
    """Ignored, and named in the reply unless its value changes nothing."""
    REFUSED = "refused"
    """An error, unless its value changes nothing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A treatment, and the values besides null that change nothing."""

    treatment: Treatment
    neutral: tuple[Any, ...] = ()


_HONOURED: Final = Rule(Treatment.HONOURED)
SILENT: Final = Rule(Treatment.SILENT)
NAMED: Final = Rule(Treatment.NAMED)
REFUSED: Final = Rule(Treatment.REFUSED)


def named_unless(*neutral: Any) -> Rule:
    """Ignored and named, but for these values."""
    return Rule(Treatment.NAMED, neutral)


def refused_unless(*neutral: Any) -> Rule:
    """Refused, but for these values."""
    return Rule(Treatment.REFUSED, neutral)


@cache
def rules_of(model: type[WireModel]) -> Mapping[str, Rule]:
    """The rules of a body's parameters: what stands in a field's annotation, else HONOURED."""
    return {
        field.alias or name: next(
            (mark for mark in field.metadata if isinstance(mark, Rule)), _HONOURED
        )
        for name, field in model.model_fields.items()
    }


class Ignored:
    """The parameters of a request that have no effect; in strict mode the first is an error."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._names: dict[str, None] = {}

    def add(
        self, name: str, field: str | None = None, *, why: str = "has no effect on this server"
    ) -> None:
        """Note one, by its name; `field` says where it is if that is more than the name."""
        if self._strict:
            raise UnsupportedError(
                f"'{field or name}' {why}, and the request is strict. "
                "Leave it out, or do without strict mode.",
                field=field or name,
                reason="UNSUPPORTED_PARAMETER",
            )
        self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        """All that were noted, each once."""
        return tuple(self._names)


def apply_rules(model: type[WireModel], body: Mapping[str, Any], ignored: Ignored) -> None:
    """Refuse what must be refused, and note what is ignored. Null counts as absent.

    A name that the model does not have is ignored and named.
    """
    rules = rules_of(model)
    for name, value in body.items():
        rule = rules.get(name, NAMED)
        if value is None or value in rule.neutral:
            continue
        match rule.treatment:
            case Treatment.REFUSED:
                raise UnsupportedError(
                    f"This server does not support '{name}' with this value. Leave it out.",
                    field=name,
                )
            case Treatment.NAMED:
                ignored.add(name)
            case Treatment.HONOURED | Treatment.SILENT:
                pass
