from __future__ import annotations

import errno
import socket

import pytest

from bridge.grpc_server.connections.address import Address, resolve


def test_an_address_is_written_as_grpc_takes_it() -> None:
    assert Address("127.0.0.1", socket.AF_INET).target(1) == "127.0.0.1:1"
    assert Address("::1", socket.AF_INET6).target(1) == "[::1]:1"


def test_a_free_address_is_found() -> None:
    assert resolve("127.0.0.1", 0) == [Address("127.0.0.1", socket.AF_INET)]
    assert Address("127.0.0.1", socket.AF_INET) in resolve("localhost", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_one_in_use_is_named_even_where_the_host_has_another(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port} is in use.*GRPC_PORT") as caught:
            resolve(host, port)
    assert caught.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_cannot_be_had() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:9 is not available"):
        resolve("192.0.2.1", 9)


def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(OSError, match=r"host '256\.0\.0\.1' has no address"):
        resolve("256.0.0.1", 0)
