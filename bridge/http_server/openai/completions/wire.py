"""The request of the legacy `POST /v1/completions`."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field

from bridge.http_server.openai.shared.wire import (
    JsonInt,
    StopList,
    StreamOptions,
    Temperature,
    TokenLimit,
    TopP,
    WireModel,
)

Tokens: TypeAlias = list[JsonInt]


class TextCompletionRequest(WireModel):
    """What a caller of `POST /v1/completions` sends. Null is the same as absent."""

    prompt: str | list[str] | Tokens | list[Tokens]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stop: str | StopList | None = None
    n: Annotated[JsonInt, Field(ge=1)] | None = None
    best_of: Annotated[JsonInt, Field(ge=0)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[JsonInt, Field(ge=0)] | None = None
    seed: JsonInt | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    user: Any = None
