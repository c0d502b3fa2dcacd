"""Conversation objects in Redis: what their callers put into them, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.core.answers.in_redis import scripts
from bridge.core.answers.in_redis.storage import RedisStorage, written
from bridge.core.answers.store import JsonDict, StoredConversation
from bridge.core.answers.texts import dumps, loads


class RedisConversationStore:
    """Stores conversations beside the stored responses."""

    def __init__(self, storage: RedisStorage) -> None:
        self._storage = storage

    async def create(
        self, owner: str, conversation: StoredConversation, items: Sequence[JsonDict]
    ) -> bool:
        """Store a new conversation; return whether there was room for it."""
        about = (conversation.id, conversation.created_at, dumps(dict(conversation.metadata)))
        most, named = self._storage.max_bytes, await _named(items)
        return bool(await self._storage.run(scripts.CREATE, most, owner, *about, *named))

    async def get(self, owner: str, id: str) -> StoredConversation | None:
        """Return a conversation, or None if there is none."""
        found = await self._storage.run(scripts.GET_CONVERSATION, owner, id)
        if found is None:
            return None
        created_at, metadata = found
        read = await self._storage.read(lambda texts: loads(texts[0]), [metadata])
        return StoredConversation(id, int(created_at), read)

    async def update(
        self, owner: str, id: str, metadata: Mapping[str, str]
    ) -> StoredConversation | None:
        """Replace the metadata of a conversation and return it, or None if there is none."""
        created_at = await self._storage.run(scripts.UPDATE, owner, id, dumps(dict(metadata)))
        return None if created_at is None else StoredConversation(id, int(created_at), metadata)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a conversation for good; return whether it existed."""
        return bool(await self._storage.run(scripts.DELETE_CONVERSATION, owner, id))

    async def items(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the items of a conversation, oldest first, or None if there is none.

        Raises TooLargeError beyond `max_bytes`.
        """
        return await self._storage.items(scripts.ITEMS, owner, id, max_bytes)

    async def item(self, owner: str, id: str, item: str) -> JsonDict | None:
        """Return one item, or None if there is none."""
        found = await self._storage.run(scripts.ITEM, owner, id, item)
        if found is None:
            return None
        read: JsonDict = await self._storage.read(lambda texts: loads(texts[0]), [found])
        return read

    async def add(self, owner: str, id: str, items: Sequence[JsonDict]) -> bool:
        """Add items at the end; return whether the conversation is there and had room."""
        most, named = self._storage.max_bytes, await _named(items)
        return bool(await self._storage.run(scripts.ADD, most, owner, id, *named))

    async def delete_item(self, owner: str, id: str, item: str) -> bool:
        """Delete an item for good; return whether it existed."""
        return bool(await self._storage.run(scripts.DELETE_ITEM, owner, id, item))


async def _named(items: Sequence[JsonDict]) -> list[str]:
    """Each item after its id."""
    texts = await written(*items)
    return [text for item, text in zip(items, texts, strict=True) for text in (item["id"], text)]
