"""Checks before the handler of every call: the origin of web pages, and the key.

Browsers cannot speak gRPC: they may not send `te: trailers`, without which gRPC resets the call,
and gRPC does not answer HTTP/1.1. So a page can only call through a translating proxy, which
forwards the browser's headers about the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc

from bridge.core.access import ANYONE, Access, Grant, KeyScope, bearer
from bridge.core.contract import AuthenticationError, PermissionDeniedError

NEEDS: Final[Mapping[str, KeyScope | None]] = {
    "bridge.v1.CompletionService": KeyScope.COMPLETE,
    "bridge.v1.ModelService": KeyScope.COMPLETE,
    "bridge.v1.PoolService": KeyScope.ADMIN,
    # What a key sees depends on its scope.
    "bridge.v1.UsageService": KeyScope.COMPLETE,
    "grpc.reflection.v1.ServerReflection": KeyScope.COMPLETE,
    "grpc.reflection.v1alpha.ServerReflection": KeyScope.COMPLETE,
    "grpc.health.v1.Health": None,
}
"""The scope that the methods of a service need; None needs no key."""

_SHOWN: Final = 100


def needed_for(method: str) -> KeyScope | None:
    """The scope that a method requires; `admin` if its service is not in the table."""
    return NEEDS.get(method.removeprefix("/").partition("/")[0], KeyScope.ADMIN)


class CallAuthenticator:
    """Refuses calls by origin and key, and identifies the callers of the others."""

    def __init__(
        self, access: Access, allowed_origins: Iterable[str] = (), *, certificates: bool = False
    ) -> None:
        """With `certificates`, every client has presented a certificate that the server trusts."""
        self._access = access
        self._allowed_origins = frozenset(allowed_origins)
        self._certificates = certificates

    def admit(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Grant:
        """Check the metadata of a call, before any of its messages is read.

        Raises PermissionDeniedError and AuthenticationError.
        """
        sent: dict[str, list[str]] = {}
        for key, value in metadata:
            if isinstance(value, str):
                sent.setdefault(key, []).append(value)
        self._check_page(sent.get("origin", []), sent.get("sec-fetch-site", []))
        needed = needed_for(method)
        if needed is None:
            return ANYONE
        given = sent.get("authorization", [])
        return self._access.authenticate(bearer(given[0]) if len(given) == 1 else None, needed)

    def identify(
        self, grant: Grant, method: str, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Grant:
        """Identify the caller after the first message; its key may have been revoked since `admit`.

        A caller without a key is identified by its client certificate, which is valid for
        completions only. Raises PermissionDeniedError and AuthenticationError.
        """
        needed = needed_for(method)
        if needed is None:
            return grant
        self._access.check(grant, needed)
        if grant != ANYONE or not self._certificates:
            return grant
        if needed is not KeyScope.COMPLETE:
            raise PermissionDeniedError(
                "This requires a key with the scope admin; a certificate is valid for completions "
                "only."
            )
        name = _certified_name(context.auth_context())
        if name is None:
            raise AuthenticationError("The client certificate contains no name.")
        # No key has a colon in its name.
        return Grant(f"cert:{name}")

    def _check_page(self, origins: list[str], sites: list[str]) -> None:
        listed = bool(origins) and all(o.lower() in self._allowed_origins for o in origins)
        if listed:
            return
        if origins:
            raise PermissionDeniedError(
                f"The origin {origins[0][:_SHOWN]!r} is not allowed. "
                "To allow it, list it in BRIDGE_ALLOWED_ORIGINS.",
                field="origin",
            )
        if any(site.lower() != "none" for site in sites):
            # The gRPC server has no pages itself.
            raise PermissionDeniedError(
                "Web pages are not allowed. "
                "To allow one, list its origin in BRIDGE_ALLOWED_ORIGINS.",
                field="sec-fetch-site",
            )


def _certified_name(identity: Mapping[str, Iterable[bytes]]) -> str | None:
    for kind in ("x509_common_name", "x509_subject_alternative_name"):
        for value in identity.get(kind, ()):
            if name := value.decode("utf-8", "replace"):
                return name
    return None
