"""What the server keeps of what a request builds on, fetched before the request is decoded."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bridge.core.answers import ResponseStore
from bridge.core.contract import NotFoundError, TooLargeError
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.decode import Past
from bridge.http_server.openai.responses.kept_items import response_of
from bridge.http_server.openai.responses.wire_items import InputItem, references_of

SHOWN_ID = 100
"""How much of an id is repeated to the caller."""


class PastReader:
    """Reads what one owner's requests build on."""

    def __init__(self, store: ResponseStore | None, owner: str, limit: int) -> None:
        """Read at most `limit` bytes of each kind."""
        self._store = store
        self._owner = owner
        self._limit = limit

    async def read(self, previous: str | None, items: str | Sequence[InputItem]) -> Past:
        """Fetch the conversation up to a response, and the items that are referenced."""
        return Past(await self._history(previous), await self._referenced(items))

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
        return found

    async def _referenced(self, items: str | Sequence[InputItem]) -> dict[str, JsonDict]:
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
                    field="input",
                    reason="ITEM_NOT_FOUND",
                )
            if size > self._limit:
                # A reference is short, and could stand for all that the server keeps.
                raise TooLargeError(
                    f"The items that 'input' references exceed {self._limit} bytes. Reference "
                    "fewer.",
                    field="input",
                )
        return referenced
