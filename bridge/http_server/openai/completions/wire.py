"""The request of the legacy `POST /v1/completions`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, TypeAdapter, WithJsonSchema

from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.shared.wire import StopList, StreamOptions, Temperature
from bridge.http_server.wire import (
    NAMED,
    REFUSED,
    SILENT,
    JsonInt,
    Said,
    TokenLimit,
    TopP,
    WireModel,
    named_unless,
    refused_unless,
)

Tokens: TypeAlias = list[JsonInt]

_SAID: Final[JsonDict] = TypeAdapter(Said).json_schema()
Prompt: TypeAlias = Annotated[
    str | list[str] | Tokens | list[Tokens],
    WithJsonSchema(
        {"anyOf": [_SAID, {"type": "array", "items": _SAID, "minItems": 1, "maxItems": 1}]}
    ),
]
"""All that OpenAI takes is read, so that what is refused is refused with its remedy."""


# wide: the parameters that OpenAI's API documents.
class TextCompletionRequest(WireModel):
    """The body of `POST /v1/completions`. Null is the same as absent."""

    # Fields without a marker are honoured.
    prompt: Prompt
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stop: str | StopList | None = None
    n: Annotated[Annotated[JsonInt, Field(ge=1)] | None, refused_unless(1)] = None
    best_of: Annotated[Annotated[JsonInt, Field(ge=0)] | None, refused_unless(1)] = None
    echo: Annotated[bool | None, refused_unless(False)] = None
    suffix: Annotated[str | None, refused_unless("")] = None
    logprobs: Annotated[Annotated[JsonInt, Field(ge=0)] | None, REFUSED] = None
    seed: Annotated[JsonInt | None, NAMED] = None
    logit_bias: Annotated[dict[str, float] | None, named_unless({})] = None
    frequency_penalty: Annotated[float | None, named_unless(0)] = None
    presence_penalty: Annotated[float | None, named_unless(0)] = None
    user: Annotated[Any, SILENT] = None

    def idle(self) -> Collection[str]:
        """Stream options without a stream."""
        return () if self.stream else {"stream_options"}
