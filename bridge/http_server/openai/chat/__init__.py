"""`POST /v1/chat/completions`."""

from bridge.http_server.openai.chat.routes import add_chat_routes
from bridge.http_server.openai.chat.wire import ChatCompletionRequest

__all__ = ["ChatCompletionRequest", "add_chat_routes"]
