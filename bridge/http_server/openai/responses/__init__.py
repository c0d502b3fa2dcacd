"""`POST /v1/responses`, and stored responses."""

from bridge.http_server.openai.responses.conversations.wire import (
    ConversationItemsRequest,
    ConversationRequest,
    ConversationUpdate,
)
from bridge.http_server.openai.responses.routes import add_response_routes
from bridge.http_server.openai.responses.wire import ResponsesRequest

__all__ = [
    "ConversationItemsRequest",
    "ConversationRequest",
    "ConversationUpdate",
    "ResponsesRequest",
    "add_response_routes",
]
