"""Names of hosts, origins and replicas, in browser headers and in settings. Pure."""

from __future__ import annotations

import ipaddress
import re
from fnmatch import fnmatchcase
from typing import Final

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_HOST_HEADER: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?#@\s]+)")
_REPLICA: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def split_host(header: str) -> tuple[str, int | None] | None:
    """Return the host and the port of a `Host` header; None if it is malformed.

    The host is in lower case, an address in its shortest form and without brackets.
    """
    match = _HOST_HEADER.fullmatch(header.lower())
    if match is None:
        return None
    host = _normal(match["host"])
    return None if host is None else (host, int(match["port"]) if match["port"] else None)


def _normal(host: str) -> str | None:
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        name = host.removesuffix(".")
        return name if _DNS_NAME.fullmatch(name) else None
    if (address.version == 6) != host.startswith("["):
        return None
    return str(address)


def is_loopback(host: str) -> bool:
    """Whether a name or an address always means this machine."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def matches(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a host matches one of the patterns; `*.example.com` matches all subdomains."""
    return any(fnmatchcase(host, pattern) for pattern in patterns)


def same_origin(origin: str, host: str) -> bool:
    """Whether an `Origin` is the server that the `Host` header names.

    The scheme is not compared: a proxy may have terminated TLS.
    """
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return False
    default = _DEFAULT_PORTS.get(match["scheme"])
    ours, theirs = split_host(host), split_host(match["host"])
    if default is None or ours is None or theirs is None:
        return False
    return (ours[0], ours[1] or default) == (theirs[0], theirs[1] or default)


def check_host(name: str) -> str:
    """Normalise an allowed host, which may start with `*.`; raises ValueError."""
    lower = name.lower()
    host = lower.removeprefix("*.")
    found = split_host(f"[{host}]" if host.count(":") > 1 and "[" not in host else host)
    if found is None or found[1] is not None:
        raise ValueError(f"{name!r} is not a host name without a port, such as *.example.com")
    return f"*.{found[0]}" if lower.startswith("*.") else found[0]


def check_origin(origin: str) -> str:
    """Normalise an allowed origin; raises ValueError."""
    lower = origin.lower()
    if not _ORIGIN.fullmatch(lower) or "*" in lower:
        raise ValueError(f"{origin!r} is not an origin such as https://chat.example.com")
    return lower


def check_replica(name: str) -> str:
    """Return the name of a replica, which is sent in headers; raises ValueError."""
    if not _REPLICA.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name of up to 64 letters, digits, dots, dashes and underscores "
            "that starts with a letter or digit, such as bridge-1"
        )
    return name


def replica_of_host(host: str) -> str:
    """Make the name of a host that of a replica."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", host).lstrip("._-")[:64]
    return name or "localhost"
