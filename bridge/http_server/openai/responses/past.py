"""What the server keeps of what a request builds on, fetched before the request is decoded."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bridge.core.answers import ResponseStore
from bridge.core.contract import InvalidRequestError, NotFoundError, TooLargeError, shown
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.decode import Past
from bridge.http_server.openai.responses.items import PREVIOUS
from bridge.http_server.openai.responses.kept_items import response_of
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.responses.wire_items import InputItem, references_of

SHOWN_ID = 100
"""How much of an id is repeated to the caller."""


def conversation_not_found(id: str, field: str) -> NotFoundError:
    """Return the error of an id that no conversation of the caller's has."""
    return NotFoundError(
        f"Conversation with id '{id[:SHOWN_ID]}' not found.",
        field=field,
        reason="CONVERSATION_NOT_FOUND",
    )


class PastReader:
    """Reads what one owner's requests build on."""

    def __init__(self, store: ResponseStore | None, owner: str, limit: int) -> None:
        """Read at most `limit` bytes of each kind."""
        self._store = store
        self._owner = owner
        self._limit = limit

    async def read(self, wire: ResponsesRequest) -> Past:
        """Fetch what a request builds on, and the items that it references."""
        if wire.conversation_id is None:
            past, source = await self._history(wire.previous_response_id), PREVIOUS
        else:
            past, source = await self._conversation(wire.conversation_id), "conversation"
        return Past(past, await self.referenced(wire.input), source)

    async def _conversation(self, id: str) -> Sequence[JsonDict]:
        store = None if self._store is None else self._store.conversations
        try:
            found = None if store is None else await store.items(self._owner, id, self._limit)
        except TooLargeError as error:
            error.field = "conversation"
            raise
        if found is None:
            raise conversation_not_found(id, "conversation")
        return found

    async def _history(self, previous: str | None) -> Sequence[JsonDict]:
        if previous is None:
            return ()
        store = self._store
        try:
            found = (
                None if store is None else await store.history(self._owner, previous, self._limit)
            )
        except TooLargeError as error:
            error.field = "previous_response_id"
            raise
        if found is None:
            raise NotFoundError(
                f"Previous response with id '{previous[:SHOWN_ID]}' not found: it or one before "
                "it was never stored, was deleted or has expired. Send the conversation as input.",
                field="previous_response_id",
                reason="PREVIOUS_RESPONSE_NOT_FOUND",
            )
        assert store is not None
        newest = await store.get(self._owner, previous)
        if newest is not None and (conversation := newest.reply.get("conversation")):
            # What was said before it is in the conversation only, which may have gone on since.
            raise InvalidRequestError(
                f"The response belongs to the conversation {shown(conversation['id'])}. Send "
                "'conversation' instead of 'previous_response_id'.",
                field="previous_response_id",
            )
        if newest is not None and newest.reply["status"] not in ("completed", "incomplete"):
            raise InvalidRequestError(
                f"The response {shown(previous)} has no answer to build on. If it runs in the "
                "background, wait for its end.",
                field="previous_response_id",
            )
        return found

    async def referenced(
        self, items: str | Sequence[InputItem], field: str = "input"
    ) -> dict[str, JsonDict]:
        """The items of kept responses that the request names by their ids."""
        referenced: dict[str, JsonDict] = {}
        references = references_of(items)
        wanted = {reference.id for reference in references}
        size = 0
        for reference in references:
            if reference.id not in referenced:
                response = response_of(reference.id)
                if response is not None and self._store is not None:
                    kept = await self._store.get(self._owner, response)
                    for item in () if kept is None else (*kept.input, *kept.reply["output"]):
                        # Nothing else of it stays in memory: one item can stand for a large
                        # response.
                        if item["id"] in wanted:
                            referenced[item["id"]] = item
                            size += len(json.dumps(item))
            if reference.id not in referenced:
                raise NotFoundError(
                    f"Item with id '{reference.id[:SHOWN_ID]}' not found. Only items of stored "
                    "responses can be referenced. Send the item itself.",
                    field=field,
                    reason="ITEM_NOT_FOUND",
                )
            if size > self._limit:
                # A reference is short, and could stand for all that the server keeps.
                raise TooLargeError(
                    f"The items that '{field}' references exceed {self._limit} bytes. Reference "
                    "fewer.",
                    field=field,
                )
        return referenced
