"""Limits on a connection: before there is a request, while one comes, and while none is read."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing, suppress
from typing import Any

import pytest

from bridge.core.contract.events import TextDelta
from bridge.http_server import HttpSettings
from tests.harness import PATIENCE
from tests.http_server.fakes import STARTED, STOP, FakeService
from tests.http_server.serving import serving

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n"


def address_of(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").removesuffix("/v1").partition(":")
    return host, int(port)


def connected(url: str) -> socket.socket:
    return socket.create_connection(address_of(url), timeout=PATIENCE)


def healthy(connection: socket.socket) -> bool:
    """Ask, and keep the connection."""
    connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    received = b""
    while not received.endswith(b'"plan":null}'):
        more = connection.recv(65536)
        assert more, received
        received += more
    return received.startswith(b"HTTP/1.1 200")


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """All that comes until the server closes the connection."""
    received = b""
    while data := connection.recv(65536):
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    with serving(FakeService(), HttpSettings(head_seconds=0.2)) as url:
        for begun in (b"", HEAD[:20], HEAD):
            with connected(url) as connection:
                connection.sendall(begun)
                status, error = answer(connection)
            assert (status, error["code"]) == (408, "request_timeout")
            assert "0.2 seconds" in error["message"]


def test_nor_is_the_head_of_a_second_request() -> None:
    with serving(FakeService(), HttpSettings(head_seconds=0.2)) as url, connected(url) as one:
        assert healthy(one)
        one.sendall(b"GET /health HT")
        status, _ = answer(one)
    assert status == 408


def test_a_body_that_does_not_come_is_cut_off() -> None:
    service = FakeService()
    with serving(service, HttpSettings(body_seconds=0.2)) as url, connected(url) as connection:
        connection.sendall(HEAD + b'\r\n{"messages": [')
        status, error = answer(connection)
    assert (status, error["code"]) == (408, "request_timeout")
    assert service.requests == []


def test_a_request_that_comes_slowly_but_in_time_is_served() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    raw = head + b"content-length: %d\r\n\r\n" % len(body) + body
    with serving(FakeService()) as url, connected(url) as connection:
        for byte in raw:
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_connection_too_many_is_told_so() -> None:
    with serving(FakeService(), HttpSettings(max_connections=1)) as url, connected(url) as first:
        assert healthy(first)
        with connected(url) as second:
            status, error = answer(second)
        assert (status, error["code"]) == (429, "queue_full")
        # The one that was there goes on.
        assert healthy(first)


def test_what_is_no_http_is_refused_as_everything_else() -> None:
    with serving(FakeService()) as url, connected(url) as connection:
        connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
        status, error = answer(connection)
    assert (status, error["code"]) == (400, "invalid_http")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_does_not_read_loses_its_connection(stream: bool) -> None:
    # More than the system takes for it.
    service = FakeService(STARTED, TextDelta("x" * 16_000_000), STOP)
    settings = HttpSettings(max_connections=1, stalled_client_seconds=0.2)
    body = {"stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    raw = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    with serving(service, settings) as url, closing(socket.socket()) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(address_of(url))
        reader.sendall(head + b"content-length: %d\r\n\r\n" % len(raw) + raw)
        assert reader.recv(12) == b"HTTP/1.1 200"
        until = time.monotonic() + PATIENCE
        while not has_room(url):
            assert time.monotonic() < until
            time.sleep(0.01)


def has_room(url: str) -> bool:
    """Whether the server takes another connection."""
    with suppress(ConnectionError), connected(url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        return connection.recv(65536).startswith(b"HTTP/1.1 200")
    # It was refused so soon that nothing more could be sent.
    return False
