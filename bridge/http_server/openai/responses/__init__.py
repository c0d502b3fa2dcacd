"""`POST /v1/responses`, and what is stored of responses."""

from bridge.http_server.openai.responses.routes import add_response_routes
from bridge.http_server.openai.responses.wire import ResponsesRequest

__all__ = ["ResponsesRequest", "add_response_routes"]
