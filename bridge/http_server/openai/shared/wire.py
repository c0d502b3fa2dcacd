"""Shared by all request models."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


class WireModel(BaseModel):
    """An object of a request.

    Unknown names are kept, never refused: clients send what other servers understand. Types are
    strict, as OpenAI's are: `"1"` is not a number and `1` is not a boolean.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    passed_over: ClassVar[bool] = False
    """Whether it has no effect as a whole, which the decoder names, so that its fields need not be
    named too."""

    def idle(self) -> Collection[str]:
        """The names of fields that have no effect because of other fields."""
        return ()


def needing(*names: str) -> ConfigDict:
    """Describe these fields as required. The decoder checks that, because it knows the remedy."""

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
Temperature: TypeAlias = Annotated[float, Field(ge=0, le=2)]
TopP: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Said: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"\S"})]
"""What the user says. That it is not blank is a rule for every API, and described here."""
StopList: TypeAlias = Annotated[list[str], Field(max_length=4)]


class StreamOptions(WireModel):
    """How a stream is sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ModerationMode(WireModel):
    """The effect of a moderation result."""

    mode: str | None = None


class ModerationPolicy(WireModel):
    """The effects of moderation on input and output."""

    input: ModerationMode | None = None
    output: ModerationMode | None = None


class Moderation(WireModel):
    """Moderation of the request and the answer."""

    model: str | None = None
    policy: ModerationPolicy | None = None
