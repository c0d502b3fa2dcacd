"""`/v1/conversations`: conversations that the server keeps, and their items."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.answers import ResponseStore, StoredConversation
from bridge.core.contract import NotFoundError, TooLargeError, shown
from bridge.http_server.context import ServerContext, owner_of
from bridge.http_server.dialect import JsonDict
from bridge.http_server.errors import json_response
from bridge.http_server.openai.responses.conversations.kept import Conversations
from bridge.http_server.openai.responses.conversations.wire import (
    ConversationItemsRequest,
    ConversationRequest,
    ConversationUpdate,
)
from bridge.http_server.openai.responses.past import conversation_not_found
from bridge.http_server.openai.responses.reading import ResponseReader
from bridge.http_server.openai.responses.replies import page_of
from bridge.http_server.openai.shared.openapi import describe
from bridge.http_server.sse import ignored_header


def add_conversation_routes(
    router: APIRouter, server: ServerContext, store: ResponseStore | None, reader: ResponseReader
) -> None:
    """Add the routes of conversations."""
    conversations = Conversations(server, store, reader)
    _add_route_of_all(router, server, conversations)
    _add_routes_of_one(router, conversations)
    _add_routes_of_items(router, conversations)
    _add_routes_of_item(router, conversations)


def _object(conversation: StoredConversation) -> JsonDict:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": dict(conversation.metadata),
    }


def _no_room() -> TooLargeError:
    return TooLargeError("The server has no room for these items. Send fewer.", field="items")


def _item_not_found(id: str) -> NotFoundError:
    return NotFoundError(
        f"The conversation has no item with id {shown(id)}.",
        field="item_id",
        reason="ITEM_NOT_FOUND",
    )


def _add_route_of_all(
    router: APIRouter, server: ServerContext, conversations: Conversations
) -> None:
    @router.post("/v1/conversations", **describe(ConversationRequest))
    async def create_conversation(request: Request) -> Response:
        """Create a conversation."""
        wire, ignored = await conversations.body(request, ConversationRequest)
        store = conversations.store
        items = await conversations.new_items(request, wire.items or (), ignored)
        id, now = f"conv_{server.new_id()}", int(server.clock())
        created = StoredConversation(id, now, wire.metadata or {})
        if not await store.create(owner_of(request.scope), created, items):
            raise _no_room()
        return json_response(_object(created), headers=ignored_header(ignored.names))


def _add_routes_of_one(router: APIRouter, conversations: Conversations) -> None:
    path = "/v1/conversations/{conversation_id}"

    @router.get(path, **describe())
    async def retrieve_conversation(request: Request, conversation_id: str) -> Response:
        """Retrieve a conversation, without its items."""
        return json_response(_object(await conversations.find(request, conversation_id)))

    @router.post(path, **describe(ConversationUpdate))
    async def update_conversation(request: Request, conversation_id: str) -> Response:
        """Replace the metadata of a conversation."""
        wire, ignored = await conversations.body(request, ConversationUpdate)
        await conversations.find(request, conversation_id)
        owner, metadata = owner_of(request.scope), wire.metadata or {}
        updated = await conversations.store.update(owner, conversation_id, metadata)
        if updated is None:
            raise conversation_not_found(conversation_id, "conversation_id")
        return json_response(_object(updated), headers=ignored_header(ignored.names))

    @router.delete(path, **describe())
    async def delete_conversation(request: Request, conversation_id: str) -> Response:
        """Delete a conversation with its items, but not the responses that were made in it."""
        await conversations.find(request, conversation_id)
        await conversations.store.delete(owner_of(request.scope), conversation_id)
        deleted = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
        return json_response(deleted)


def _add_routes_of_items(router: APIRouter, conversations: Conversations) -> None:
    path = "/v1/conversations/{conversation_id}/items"

    @router.post(path, **describe(ConversationItemsRequest))
    async def add_conversation_items(request: Request, conversation_id: str) -> Response:
        """Add items at the end of a conversation."""
        wire, ignored = await conversations.body(request, ConversationItemsRequest)
        await conversations.find(request, conversation_id)
        items = await conversations.new_items(request, wire.items, ignored)
        owner = owner_of(request.scope)
        if not await conversations.store.add(owner, conversation_id, items):
            raise _no_room()
        page = page_of(items, max(len(items), 1), "asc", None)
        return json_response(page, headers=ignored_header(ignored.names))

    @router.get(path, **describe())
    async def list_conversation_items(
        request: Request,
        conversation_id: str,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> Response:
        """List the items of a conversation, in pages."""
        await conversations.find(request, conversation_id)
        owner, most = owner_of(request.scope), conversations.server.settings.max_body_bytes
        items = await conversations.store.items(owner, conversation_id, most)
        return json_response(page_of(items or (), limit, order, after))


def _add_routes_of_item(router: APIRouter, conversations: Conversations) -> None:
    path = "/v1/conversations/{conversation_id}/items/{item_id}"

    @router.get(path, **describe())
    async def retrieve_conversation_item(
        request: Request, conversation_id: str, item_id: str
    ) -> Response:
        """Retrieve an item of a conversation."""
        await conversations.find(request, conversation_id)
        owner = owner_of(request.scope)
        item = await conversations.store.item(owner, conversation_id, item_id)
        if item is None:
            raise _item_not_found(item_id)
        return json_response(item)

    @router.delete(path, **describe())
    async def delete_conversation_item(
        request: Request, conversation_id: str, item_id: str
    ) -> Response:
        """Delete an item of a conversation; the reply is the conversation."""
        found = await conversations.find(request, conversation_id)
        owner = owner_of(request.scope)
        if not await conversations.store.delete_item(owner, conversation_id, item_id):
            raise _item_not_found(item_id)
        return json_response(_object(found))
