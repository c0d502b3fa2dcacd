"""Steps that every request passes before any route."""

from bridge.http_server.middleware.access import AccessMiddleware
from bridge.http_server.middleware.browsers import BrowserRules
from bridge.http_server.middleware.head import HeadMiddleware
from bridge.http_server.middleware.request_id import RequestIdMiddleware

__all__ = ["AccessMiddleware", "BrowserRules", "HeadMiddleware", "RequestIdMiddleware"]
