"""The requests of the Conversations API."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from bridge.http_server.openai.responses.wire_items import InputItem
from bridge.http_server.wire import WireModel

NewItems: TypeAlias = Annotated[list[InputItem], Field(max_length=20)]
"""As many as OpenAI takes at a time."""


class ConversationRequest(WireModel):
    """A new conversation. Null is the same as absent."""

    items: NewItems | None = None
    metadata: dict[str, str] | None = None


class ConversationUpdate(WireModel):
    """New metadata of a conversation; null leaves none."""

    metadata: dict[str, str] | None


class ConversationItemsRequest(WireModel):
    """Items to add to a conversation."""

    items: NewItems
