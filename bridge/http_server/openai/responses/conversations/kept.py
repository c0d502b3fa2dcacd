"""The conversations that one server keeps, as its routes use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from starlette.requests import Request

from bridge.core.answers import ConversationStore, ResponseStore, StoredConversation
from bridge.core.contract import Faults, InvalidRequestError, UnsupportedError
from bridge.http_server.context import CallOptions, ServerContext, owner_of
from bridge.http_server.dialect import JsonDict
from bridge.http_server.endpoint import received
from bridge.http_server.openai.responses.items import Items
from bridge.http_server.openai.responses.kept_items import (
    item_id,
    kept_item,
    kind_of,
    parse_kept,
)
from bridge.http_server.openai.responses.past import conversation_not_found
from bridge.http_server.openai.responses.reading import ResponseReader
from bridge.http_server.openai.responses.wire_items import (
    CompactionTriggerItem,
    InputItem,
    ItemReference,
    references_of,
)
from bridge.http_server.wire import Ignored, WireModel, apply_rules, parse

M = TypeVar("M", bound=WireModel)


class Conversations:
    """The conversations that one server keeps."""

    def __init__(
        self, server: ServerContext, store: ResponseStore | None, reader: ResponseReader
    ) -> None:
        """Without a `store`, none is kept."""
        self.server = server
        self._store = store
        self._reader = reader

    @property
    def store(self) -> ConversationStore:
        """The store; raises UnsupportedError if there is none."""
        if self._store is None:
            raise UnsupportedError(
                "This server keeps no conversations: storing is turned off "
                "(BRIDGE_RESPONSES_DAYS=0)."
            )
        return self._store.conversations

    async def body(self, request: Request, model: type[M]) -> tuple[M, Ignored]:
        """Read the body of a request, and what has no effect in it."""

        async def decode(body: object, options: CallOptions) -> tuple[M, Ignored]:
            wire = await options.off_loop(parse, model, body)
            ignored = Ignored(strict=options.strict)
            apply_rules(wire, body, ignored)
            return wire, ignored

        return await received(request, self.server, decode)

    async def new_items(
        self, request: Request, items: Sequence[InputItem], ignored: Ignored
    ) -> list[JsonDict]:
        """Return items as they are kept; raises if no response could be built on one."""
        found = await self._reader.past_for(request).referenced(items, "items")
        resolved = iter(parse_kept([found[each.id] for each in references_of(items)]))
        items = [next(resolved) if isinstance(each, ItemReference) else each for each in items]
        read, faults = Items(None, ignored), Faults()
        for index, item in enumerate(items):
            with faults:
                if isinstance(item, CompactionTriggerItem):
                    raise InvalidRequestError(
                        f"'items[{index}]' is a compaction_trigger, which belongs in the input of "
                        "a response.",
                        field=f"items[{index}]",
                    )
                read.add(item, f"items[{index}]")
        faults.raise_any()
        hex = self.server.new_id()
        return [
            kept_item(item, item_id(kind_of(item), hex, index, input=True))
            for index, item in enumerate(items)
        ]

    async def find(self, request: Request, id: str) -> StoredConversation:
        """Return a conversation of the sender's; raises NotFoundError."""
        found = None
        if self._store is not None:
            found = await self.store.get(owner_of(request.scope), id)
        if found is None:
            raise conversation_not_found(id, "conversation_id")
        return found
