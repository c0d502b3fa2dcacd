"""Stores responses, and finds them again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from bridge.core.answers import ConversationStore, ResponseStore, StoredResponse
from bridge.core.contract import NotFoundError, StoreUnavailableError
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.decode import ResponseCall
from bridge.http_server.openai.responses.past import SHOWN_ID

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps the responses of all owners in a store, if there is one."""

    def __init__(self, store: ResponseStore | None) -> None:
        self._store = store

    async def keep(self, owner: str, call: ResponseCall, reply: JsonDict) -> JsonDict:
        """Return the complete response once it is stored; it says if that was not possible."""
        if call.conversation is not None:
            assert self._store is not None
            items = [*call.items, *reply["output"]]
            if not await _added(self._store.conversations, owner, call.conversation, items):
                reply["conversation"] = None
        return await self.put(owner, call, reply)

    async def put(self, owner: str, call: ResponseCall, reply: JsonDict) -> JsonDict:
        """Store a response, or replace it; its conversation stays as it is."""
        if call.store:
            assert self._store is not None
            response = StoredResponse(reply["id"], call.previous, call.items, reply)
            if not await self._store.put(owner, response):
                reply["store"] = False
        return reply

    async def find(self, owner: str, id: str) -> StoredResponse:
        """Return a stored response; raises NotFoundError."""
        kept = None if self._store is None else await self._store.get(owner, id)
        if kept is None:
            raise not_found(id)
        return kept

    async def history(self, owner: str, id: str, most: int) -> Sequence[JsonDict]:
        """Return the items of a response and of all before it, of at most so many bytes."""
        found = None if self._store is None else await self._store.history(owner, id, most)
        return found or ()

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a response; return whether it existed."""
        return self._store is not None and await self._store.delete(owner, id)


def not_found(id: str) -> NotFoundError:
    """Return the error of an id that no response of the caller's has."""
    return NotFoundError(
        f"Response with id '{id[:SHOWN_ID]}' not found.",
        field="response_id",
        reason="RESPONSE_NOT_FOUND",
    )


async def _added(store: ConversationStore, owner: str, id: str, items: Sequence[JsonDict]) -> bool:
    with suppress(StoreUnavailableError):
        if await store.add(owner, id, items):
            return True
    logger.warning("an answer is not added to its conversation: it is gone, or too large")
    return False
