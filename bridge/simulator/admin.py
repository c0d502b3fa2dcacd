"""The simulator's endpoints besides the API: setup, inspection and logins.

- `PUT /simulator/scripts/NAME`, {steps, tools_only}; `GET` returns each conversation's progress
- `PUT /simulator/accounts`, {accounts, refresh_tokens}
- `GET /simulator/requests`: the credential of each request, and how it ended
- `POST /v1/oauth/token`: exchanges a login's refresh token. The CLI sends this to
  platform.claude.com whatever its base URL, so it arrives through `proxy.Proxy`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from bridge.simulator.accounts import Accounts
from bridge.simulator.api import Receive, invalid, parsed, read
from bridge.simulator.ledger import Exchange, Ledger
from bridge.simulator.playing import Scripts
from bridge.simulator.script import BadDirective

_SCRIPTS = "/simulator/scripts/"
_TOKEN_SECONDS = 28_800

Answer = tuple[int, Mapping[str, Any]]


class Admin:
    """Answers requests outside the Messages API."""

    def __init__(self, ledger: Ledger, accounts: Accounts, scripts: Scripts) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._scripts = scripts

    async def answer(self, method: str, path: str, receive: Receive) -> Answer | None:
        """Return the status and body, or None if there is nothing at this path."""
        if method == "GET" and path == "/simulator/requests":
            return 200, {"requests": [_seen(e) for e in self._ledger.exchanges()]}
        if method == "GET" and path.startswith(_SCRIPTS):
            return 200, {"played": self._scripts.played(unquote(path[len(_SCRIPTS) :]))}
        try:
            if method == "PUT" and path.startswith(_SCRIPTS):
                name = unquote(path[len(_SCRIPTS) :])
                self._scripts.put(name, parsed(await read(receive)))
                return 200, {"script": name}
            if method == "PUT" and path == "/simulator/accounts":
                self._accounts.load(parsed(await read(receive)))
                return 200, {"accounts": list(self._accounts.by_credential)}
        except BadDirective as error:
            raise invalid(str(error)) from None
        if method == "POST" and path == "/v1/oauth/token":
            return self._token(parsed(await read(receive)))
        return None

    def _token(self, body: Mapping[str, Any]) -> Answer:
        """https://datatracker.ietf.org/doc/html/rfc6749#section-5 (the refusal's wording seen)."""
        token = str(body.get("refresh_token"))
        access = self._accounts.refresh_tokens.get(token)
        if body.get("grant_type") != "refresh_token" or access is None:
            return 400, {
                "error": "invalid_grant",
                "error_description": "Refresh token not found or invalid",
            }
        return 200, {
            "token_type": "Bearer",
            "access_token": access,
            "expires_in": _TOKEN_SECONDS,
            "refresh_token": token,
            "scope": str(body.get("scope", "user:inference")),
        }


def _seen(exchange: Exchange) -> dict[str, Any]:
    return {
        "number": exchange.number,
        "credential": exchange.credential,
        "model": exchange.model,
        "status": exchange.status,
        "ended": exchange.ended,
    }
