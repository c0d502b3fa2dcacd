"""`POST /v1/messages`."""

from bridge.http_server.anthropic.messages.routes import add_message_routes
from bridge.http_server.anthropic.messages.wire import MessagesRequest

__all__ = ["MessagesRequest", "add_message_routes"]
