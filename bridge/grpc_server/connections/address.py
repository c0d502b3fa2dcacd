"""Checks the addresses to listen on before gRPC uses them.

If a name stands for several addresses, gRPC is content with one of them: next to another server on
127.0.0.1, `localhost` would silently mean ::1 only. It also does not report why an address is not
available. So each address is tried here first.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """One numeric address."""

    host: str
    family: socket.AddressFamily

    def target(self, port: int) -> str:
        """The address in gRPC's format."""
        host = f"[{self.host}]" if self.family == socket.AF_INET6 else self.host
        return f"{host}:{port}"


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host on which the port is free.

    Raises OSError with a message for the operator.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(error.errno, f"The host {host!r} has no address.") from None
    absent: OSError | None = None
    addresses: list[Address] = []
    for family, _, _, _, sockaddr in found:
        address = Address(str(sockaddr[0]), family)
        try:
            _try(address, port)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                # On a machine without IPv6, localhost may still resolve to ::1.
                absent = error
                continue
            raise _explained(error, address.target(port)) from None
        addresses.append(address)
    if not addresses:
        raise _explained(absent or OSError(errno.EADDRNOTAVAIL, ""), f"{host}:{port}") from None
    return addresses


def _try(address: Address, port: int) -> None:
    with socket.socket(address.family, socket.SOCK_STREAM) as probe:
        # As gRPC does: connections of a server that has just ended do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address.host, port))


def _explained(error: OSError, target: str) -> OSError:
    number = error.errno or 0
    match number:
        case errno.EADDRINUSE:
            text = (
                f"The gRPC address {target} is in use. Stop the other server, or choose another "
                "port with --grpc-port or GRPC_PORT."
            )
        case errno.EACCES:
            text = (
                f"The gRPC address {target} requires root privileges. Choose a port from 1024 up "
                "with --grpc-port or GRPC_PORT."
            )
        case _:
            text = f"The gRPC address {target} is not available: {os.strerror(number)}."
    return OSError(number, text)
