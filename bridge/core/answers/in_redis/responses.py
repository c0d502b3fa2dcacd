"""Stored responses in Redis. They expire and make room like those in a file: see `sqlite`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from bridge.core.answers.in_redis import scripts
from bridge.core.answers.in_redis.conversations import RedisConversationStore
from bridge.core.answers.in_redis.storage import RedisStorage, written
from bridge.core.answers.store import JsonDict, StoredResponse
from bridge.core.answers.texts import loads
from bridge.core.contract import StoreUnavailableError

logger = logging.getLogger(__name__)


class RedisResponseStore:
    """Stores responses in Redis, where every server of a fleet finds them.

    Reading methods raise StoreUnavailableError while Redis is away; a response cannot be stored
    then, but the answer is still sent.
    """

    def __init__(self, storage: RedisStorage) -> None:
        self._storage = storage
        self.conversations = RedisConversationStore(storage)

    async def expire(self) -> None:
        """Delete expired responses. This also happens whenever a response is stored."""
        with suppress(StoreUnavailableError):
            await self._storage.run(scripts.EXPIRE)

    async def put(self, owner: str, response: StoredResponse) -> bool:
        """Store a response, or replace it; return whether that was possible."""
        reply = dict(response.reply)
        output = reply.pop("output")
        try:
            texts = await written(response.input, output, reply)
        except (ValueError, RecursionError):
            logger.exception("a response is not stored: it cannot be written as JSON")
            return False
        most, parent = self._storage.max_bytes, response.parent or ""
        try:
            kept = await self._storage.run(scripts.PUT, most, owner, response.id, parent, *texts)
        except StoreUnavailableError:
            return False
        if not kept:
            logger.warning("a response is not stored: it is too large, or its history is gone")
        return bool(kept)

    async def get(self, owner: str, id: str) -> StoredResponse | None:
        """Return a response, or None if there is none."""
        found = await self._storage.run(scripts.GET, owner, id)
        if found is None:
            return None
        parent, *texts = found
        read: StoredResponse = await self._storage.read(
            lambda texts: _response(id, parent, texts), texts
        )
        return read

    async def history(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the input and output of a response and all it builds on, oldest first.

        None if any of it is missing. Raises TooLargeError beyond `max_bytes`.
        """
        return await self._storage.items(scripts.HISTORY, owner, id, max_bytes)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a response for good; return whether it existed."""
        return bool(await self._storage.run(scripts.DELETE, owner, id))

    async def aclose(self) -> None:
        """Nothing is to be closed: the link belongs to the server."""


def _response(id: str, parent: str, texts: Sequence[str]) -> StoredResponse:
    input, output, reply = map(loads, texts)
    return StoredResponse(id, parent or None, input, {**reply, "output": output})
