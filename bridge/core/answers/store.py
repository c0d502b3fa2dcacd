"""The interfaces of the stores of responses and of conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

JsonDict: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and the input it was made from, as JSON in the API's own format."""

    id: str
    parent: str | None
    """The response that it builds on."""
    input: Sequence[JsonDict]
    """Its own items, without its history."""
    reply: JsonDict
    """The response object; its `output` has the items of the answer."""


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation that its callers made, without its items."""

    id: str
    created_at: int
    """In Unix seconds."""
    metadata: Mapping[str, str]


class ConversationStore(Protocol):
    """Stores conversations. Those of one owner do not exist for another.

    Every method raises StoreUnavailableError if the store cannot be reached.
    """

    async def create(
        self, owner: str, conversation: StoredConversation, items: Sequence[JsonDict]
    ) -> bool:
        """Store a new conversation; False if there is no room for it."""
        ...

    async def get(self, owner: str, id: str) -> StoredConversation | None:
        """Return a conversation, or None if there is none."""
        ...

    async def update(
        self, owner: str, id: str, metadata: Mapping[str, str]
    ) -> StoredConversation | None:
        """Replace the metadata of a conversation and return it, or None if there is none."""
        ...

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a conversation for good; False if it did not exist."""
        ...

    async def items(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the items of a conversation, oldest first, or None if there is none.

        Raises TooLargeError beyond `max_bytes`.
        """
        ...

    async def item(self, owner: str, id: str, item: str) -> JsonDict | None:
        """Return one item, or None if there is none."""
        ...

    async def add(self, owner: str, id: str, items: Sequence[JsonDict]) -> bool:
        """Add items at the end; False if the conversation does not exist or there is no room."""
        ...

    async def delete_item(self, owner: str, id: str, item: str) -> bool:
        """Delete an item for good; False if it did not exist."""
        ...


class ResponseStore(Protocol):
    """Stores responses. The responses of one owner do not exist for another.

    Reading methods raise StoreUnavailableError if the store cannot be reached; if a response cannot
    be stored, the answer is still sent.
    """

    @property
    def conversations(self) -> ConversationStore:
        """The store of conversations that belongs to it."""
        ...

    async def put(self, owner: str, response: StoredResponse) -> bool:
        """Store a response, or replace the owner's one of this id; False if that is impossible."""
        ...

    async def get(self, owner: str, id: str) -> StoredResponse | None:
        """Return a response, or None if there is none."""
        ...

    async def history(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the input and output of a response and all it builds on, oldest first.

        None if any of it is missing. Raises TooLargeError (field `history`) beyond `max_bytes`.
        """
        ...

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a response for good; False if it did not exist."""
        ...

    async def expire(self) -> None:
        """Delete expired responses."""
        ...

    async def aclose(self) -> None:
        """Close the store after all pending operations."""
        ...
