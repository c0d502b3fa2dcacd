"""What several request models of OpenAI's API share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from bridge.http_server.wire import WireModel

Temperature: TypeAlias = Annotated[float, Field(ge=0, le=2)]
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
