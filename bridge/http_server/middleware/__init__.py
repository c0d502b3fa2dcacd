"""Steps that every request passes before any route."""

from bridge.http_server.middleware.access import NEEDS, AccessMiddleware
from bridge.http_server.middleware.browsers import BrowserRules
from bridge.http_server.middleware.head import HeadMiddleware
from bridge.http_server.middleware.request_id import RequestIdMiddleware

__all__ = ["NEEDS", "AccessMiddleware", "BrowserRules", "HeadMiddleware", "RequestIdMiddleware"]
