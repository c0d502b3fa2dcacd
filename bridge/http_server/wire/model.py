"""What the models of all requests share, in whichever dialect."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


class WireModel(BaseModel):
    """An object of a request.

    Unknown names are kept, never refused: clients send what other servers understand.
    Types are strict, as OpenAI's are: `"1"` is no number and `1` is no boolean.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    passed_over: ClassVar[bool] = False
    """Whether it has no effect as a whole, which the decoder names, so that its fields need not be
    named too."""

    def idle(self) -> Collection[str]:
        """The names of fields that have no effect beside what the others hold."""
        return ()


def needing(*names: str) -> ConfigDict:
    """Describe these fields as those that must be there; that they are is for the decoder to say.

    It knows the remedy.
    """

    def describe(schema: dict[str, Any]) -> None:
        schema["required"] = [*schema.get("required", ()), *names]
        for name in names:
            kinds = schema["properties"][name].pop("anyOf")
            schema["properties"][name] = next(kind for kind in kinds if kind != {"type": "null"})

    return ConfigDict(json_schema_extra=describe)


def _nothing(schema: dict[str, Any]) -> None:
    schema.clear()
    schema["not"] = {}


UNSERVED: Final = ConfigDict(json_schema_extra=_nothing)
"""Describe an object as nothing: it is read for the error that it ends in."""


def _integral(value: object) -> object:
    # JSON has one kind of number: 5.0 is the integer 5 to JSON Schema.
    return int(value) if isinstance(value, float) and value.is_integer() else value


JsonInt: TypeAlias = Annotated[int, BeforeValidator(_integral)]
TokenLimit: TypeAlias = Annotated[JsonInt, Field(ge=1)]
TopP: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Said: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"\S"})]
"""What the user says. That it is not blank is a rule for every API, and described here."""
