"""The legacy `POST /v1/completions`."""

from bridge.http_server.openai.completions.routes import add_completion_routes
from bridge.http_server.openai.completions.wire import TextCompletionRequest

__all__ = ["TextCompletionRequest", "add_completion_routes"]
