"""Detects requests that a browser sends on behalf of a foreign page. Pure.

A page of any site can make a browser send requests to this machine: through a host name that
resolves to it (DNS rebinding), or across origins. Browsers identify such requests by `Host`,
`Origin` and `Sec-Fetch-Site`; other clients send at most the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers

from bridge.core.contract import PermissionDeniedError
from bridge.core.system import is_loopback, matches, same_origin, split_host
from bridge.http_server.dialect import BrowserHeaders

_OWN_SITES: Final = frozenset({"same-origin", "none"})
_METHODS: Final = "GET, POST, DELETE, OPTIONS"
_OWN_HEADERS: Final = BrowserHeaders(
    sent=frozenset(
        {
            "accept",
            "accept-language",
            "authorization",
            "cache-control",
            "content-type",
            "http-referer",  # what clients of other services say of themselves
            "pragma",
            "traceparent",
            "tracestate",
            "user-agent",  # Firefox and Safari ask for it, Chromium does not
            "x-api-key",
            "x-conversation-id",  # for balancers: docs/proxies.md
            "x-requested-with",
            "x-title",
        }
    ),
    sent_prefixes=("x-bridge-",),
    read=frozenset(
        {
            "retry-after",
            "retry-after-ms",
            "x-bridge-error",
            "x-bridge-found-on",
            "x-bridge-ignored-params",
            "x-bridge-payer",
            "x-bridge-replica",
            "x-should-retry",
        }
    ),
)
_PREFLIGHT_SECONDS: Final = "600"
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class BrowserRules:
    """The hosts and origins allowed besides the machine's own names and the server's own page."""

    hosts: tuple[str, ...] = ()
    """Names of this server; `*.example.com` matches all subdomains."""
    origins: tuple[str, ...] = ()
    """Origins of other web pages that may use the server."""
    dialects: tuple[BrowserHeaders, ...] = ()
    """The headers that the dialects add to the server's own."""

    def check(self, headers: Headers, http_version: str, local_host: str | None) -> None:
        """Raise PermissionDeniedError for a request of a page that is not allowed.

        `local_host` is the address that received the connection; None for a Unix socket.
        """
        host = self._checked_host(headers.getlist("host"), http_version, local_host)
        origins = headers.getlist("origin")
        if len(origins) > 1:
            raise PermissionDeniedError("A request must have at most one Origin.", field="Origin")
        if origins and origins[0].lower() in self.origins:
            return
        if origins and not same_origin(origins[0], host):
            raise PermissionDeniedError(
                f"The Origin {origins[0][:_SHOWN]!r} is not allowed. "
                "To allow it, list it in BRIDGE_ALLOWED_ORIGINS.",
                field="Origin",
            )
        if any(site.lower() not in _OWN_SITES for site in headers.getlist("sec-fetch-site")):
            raise PermissionDeniedError(
                "Web pages of other sites are not allowed. "
                "To allow one, list its origin in BRIDGE_ALLOWED_ORIGINS.",
                field="Sec-Fetch-Site",
            )

    def _checked_host(self, hosts: list[str], http_version: str, local_host: str | None) -> str:
        if not hosts and http_version == "1.0":
            # Not a browser: some simple health checks send none.
            return ""
        found = split_host(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise PermissionDeniedError("A request must have exactly one valid Host.", field="Host")
        name = found[0]
        known = (
            local_host is None
            or is_loopback(name)
            or matches(name, self.hosts)
            or name == _address(local_host)
        )
        if not known:
            raise PermissionDeniedError(
                f"The Host {name[:_SHOWN]!r} is not allowed. "
                "To allow it, list it in BRIDGE_ALLOWED_HOSTS.",
                field="Host",
            )
        return hosts[0]

    def reply_headers(self, headers: Headers) -> Mapping[str, str]:
        """CORS headers that let an allowed page read the reply, errors included."""
        if not self.origins:
            return {}
        # A cache must not serve one origin's reply to another.
        added = {"vary": "Origin"}
        origin = headers.get("origin", "")
        if origin.lower() in self.origins:
            added["access-control-allow-origin"] = origin
            added["access-control-expose-headers"] = ", ".join(self._readable())
        return added

    def preflight_headers(self, headers: Headers) -> Mapping[str, str]:
        """CORS headers of a preflight: the requested headers that a page may send."""
        asked = headers.get("access-control-request-headers", "").lower().split(",")
        allowed = [name for name in (each.strip() for each in asked) if self._may_be_sent(name)]
        return {
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": ", ".join(allowed or ("authorization", "content-type")),
            "access-control-max-age": _PREFLIGHT_SECONDS,
            "vary": "Origin, Access-Control-Request-Headers",
        }

    def _may_be_sent(self, name: str) -> bool:
        return any(
            name in each.sent or name.startswith(each.sent_prefixes)
            for each in (_OWN_HEADERS, *self.dialects)
        )

    def _readable(self) -> list[str]:
        return sorted(_OWN_HEADERS.read.union(*(each.read for each in self.dialects)))


def _address(local_host: str) -> str | None:
    found = split_host(f"[{local_host}]" if ":" in local_host else local_host)
    return None if found is None else found[0]


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a request is a CORS preflight."""
    return method == "OPTIONS" and "access-control-request-method" in headers
