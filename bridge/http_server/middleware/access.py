"""Checks before any route: which page a request comes from, and its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.core.access import Access, Grant, KeyScope
from bridge.core.contract import AuthenticationError, KeysUnavailableError, PermissionDeniedError
from bridge.http_server.dialect import dialect_of
from bridge.http_server.middleware.browsers import BrowserRules, is_preflight

NEEDS: Final[Mapping[str, KeyScope | None]] = {
    # The page itself contains no data of this server; it fetches them from below /bridge/.
    "/": None,
    "/page.css": None,
    "/page.js": None,
    "/usage.js": None,
    "/health": None,
    "/livez": None,
    "/readyz": None,
    "/bridge/": KeyScope.ADMIN,
    "/metrics": KeyScope.ADMIN,
}
"""The scope that a URL needs where it is not `complete`; None needs no key.

A path that ends in a slash stands for everything below it, but for the root, which is itself.
"""


def needed_for(path: str, needs: Mapping[str, KeyScope | None] = NEEDS) -> KeyScope | None:
    """The scope that a path requires: None for no key, `complete` if the path is not listed."""
    if path in needs:
        return needs[path]
    for prefix, scope in needs.items():
        if prefix != "/" and prefix.endswith("/") and path.startswith(prefix):
            return scope
    return KeyScope.COMPLETE


class AccessMiddleware:
    """Refuses requests by origin and key, and records the key of the others.

    Plain ASGI; inside `RequestIdMiddleware`, which answers the errors raised here. It also records
    whether the request has a key with the scope `admin`, if it needs a key or not.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        rules: BrowserRules,
        needs: Mapping[str, KeyScope | None] = NEEDS,
    ) -> None:
        self._app = app
        self._access = access
        self._rules = rules
        self._needs = needs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises PermissionDeniedError and AuthenticationError."""
        if scope["type"] == "websocket":
            # No route supports WebSockets, and the checks below are not made for them.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            state = scope["state"]
            state["reply_headers"] = self._rules.reply_headers(headers)
            self._rules.check(headers, scope["http_version"], _local_host(scope))
            if is_preflight(scope["method"], headers):
                # Only pages of allowed origins need a preflight; the server's own page does not.
                reply = Response(None, 204, self._rules.preflight_headers(headers))
                await reply(scope, receive, send)
                return
            secret = dialect_of(scope).secret(headers)
            needed = needed_for(scope["path"], self._needs)
            if needed is not None:
                grant = self._access.authenticate(secret, needed)
                state["caller"], state["owner"] = grant.name, grant.owner
                state["admin"] = self._access.is_admin(grant)
                receive = self._checked(receive, grant, needed)
            else:
                state["admin"] = self._is_admin(secret)
        await self._app(scope, receive, send)

    def _checked(self, receive: Receive, grant: Grant, needed: KeyScope) -> Receive:
        """Check the key again once the body has arrived: it may have been revoked meanwhile."""

        async def checked() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                self._access.check(grant, needed)
            return message

        return checked

    def _is_admin(self, secret: str | None) -> bool:
        try:
            self._access.authenticate(secret, KeyScope.ADMIN)
        except (AuthenticationError, PermissionDeniedError, KeysUnavailableError):
            return False
        return True


def _local_host(scope: Scope) -> str | None:
    server = scope.get("server")
    # For a Unix socket, `server` is its path, without a port.
    return None if server is None or server[1] is None else str(server[0])
