"""Limits on a connection: before there is a request, while one comes, and while none is read."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing, suppress
from typing import Any

import h11
import pytest

from bridge.core.contract.events import TextDelta
from bridge.http_server import HttpSettings
from tests.support.fakes import STARTED, STOP, FakeService
from tests.support.harness import LONG, PATIENCE
from tests.support.http.serving import serving

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


def test_the_head_of_a_second_request_is_not_awaited_either() -> None:
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


def test_a_connection_over_the_limit_is_refused_with_an_error() -> None:
    with serving(FakeService(), HttpSettings(max_connections=1)) as url, connected(url) as first:
        assert healthy(first)
        with connected(url) as second:
            status, error = answer(second)
        assert (status, error["code"]) == (429, "queue_full")
        # The existing one continues.
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


LAST = {
    "HTTP/1.1, close": (b"HTTP/1.1", b"connection: close\r\n"),
    "HTTP/1.0": (b"HTTP/1.0", b""),
    "HTTP/1.0, keep-alive": (b"HTTP/1.0", b"connection: keep-alive\r\n"),
    # Java's client offers this with every first request.
    "HTTP/1.1, upgrade": (b"HTTP/1.1", b"connection: upgrade\r\nupgrade: h2c\r\n"),
    "HTTP/1.1": (b"HTTP/1.1", b""),
}
LATE = 0.2


def asking(version: bytes, header: bytes, *, stream: bool) -> tuple[bytes, bytes]:
    """Head and body of a request."""
    content = {"stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    body = json.dumps(content).encode()
    head = b"POST /v1/chat/completions %s\r\nhost: localhost\r\n%scontent-length: %d\r\n\r\n"
    return head % (version, header, len(body)), body


def slow() -> FakeService:
    """Answers in the middle of which the time for a head is long over."""
    return FakeService(LATE * 2, STARTED, TextDelta("Hel"), LATE * 2, TextDelta("lo"), STOP)


def responses(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many responses, after which nothing else may have come."""
    client = h11.Connection(h11.CLIENT)
    given: list[tuple[int, bytes]] = []
    while len(given) < count:
        client.send(h11.Request(method="GET", target="/", headers=[("host", "localhost")]))
        client.send(h11.EndOfMessage())
        status, body = 0, b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                client.receive_data(connection.recv(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                raise AssertionError(event)
        given.append((status, body))
        if len(given) < count:
            client.start_next_cycle()
    assert client.trailing_data[0] == b""
    return given


def assert_whole(response: tuple[int, bytes], *, stream: bool) -> None:
    status, body = response
    assert status == 200
    assert b"HTTP/1." not in body
    if stream:
        assert body.rstrip().endswith(b"data: [DONE]")
        assert b"error" not in body
    else:
        assert json.loads(body)["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("writes", [1, pytest.param(2, marks=LONG)])
@pytest.mark.parametrize("kind", LAST)
def test_an_answer_may_take_longer_than_a_head(kind: str, writes: int, stream: bool) -> None:
    head, body = asking(*LAST[kind], stream=stream)
    service = slow()
    with serving(service, HttpSettings(head_seconds=LATE)) as url, connected(url) as connection:
        for data in (head + body,) if writes == 1 else (head, body):
            connection.sendall(data)
        [response] = responses(connection, 1)
    assert_whole(response, stream=stream)
    assert service.closed.is_set()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_so_may_one_to_a_request_that_was_sent_before_its_turn(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.http_server.connection.LINGER_SECONDS", LATE)
    first = b"".join(asking(b"HTTP/1.1", b"", stream=stream))
    head, body = asking(b"HTTP/1.1", b"", stream=stream)
    settings = HttpSettings(head_seconds=LATE)
    with serving(slow(), settings) as url, connected(url) as connection:
        connection.sendall(first + head + body[:5])
        [one] = responses(connection, 1)
        # Longer than the rest of a body is waited for that was refused.
        time.sleep(LATE * 2)
        connection.sendall(body[5:])
        [other] = responses(connection, 1)
    assert_whole(one, stream=stream)
    assert_whole(other, stream=stream)


@pytest.mark.parametrize("begun", [True, False])
def test_what_comes_behind_the_last_request_is_no_part_of_its_answer(begun: bool) -> None:
    head, body = asking(b"HTTP/1.1", b"connection: close\r\n", stream=True)
    with serving(slow()) as url, connected(url) as connection:
        connection.sendall(head + body)
        received = connection.recv(65536) if begun else b""
        for _ in range(2):
            connection.sendall(b"\r\nGET / HTTP/1.1\r\n\r\n")
        while data := connection.recv(65536):
            received += data
    assert received.count(b"HTTP/1.") == 1
    assert received.startswith(b"HTTP/1.1 200")
    assert received.rstrip().endswith(b"data: [DONE]\n\n\r\n0")


def test_a_body_that_turns_out_no_http_ends_an_answer_that_has_begun() -> None:
    head = b"POST /v1/nowhere HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with serving(FakeService()) as url, connected(url) as connection:
        connection.sendall(head)
        received = connection.recv(65536)
        with suppress(ConnectionError):
            connection.sendall(b"this is no length\r\n")
            while data := connection.recv(65536):
                received += data
    assert received.startswith(b"HTTP/1.1 404")
    assert received.count(b"HTTP/1.") == 1


def test_a_request_with_two_lengths_is_its_connections_last() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    smuggled = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with serving(FakeService()) as url, connected(url) as connection:
        connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) + smuggled)
        received = b""
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
    assert received.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in received.lower()
    assert received.count(b"HTTP/1.1 ") == 1


@LONG
def test_an_idle_connection_is_kept_as_long_as_configured() -> None:
    settings = HttpSettings(idle_connection_seconds=7)  # more than uvicorn's own 5
    with serving(FakeService(), settings) as url, connected(url) as connection:
        assert healthy(connection)
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - began > 6.5


def half_closed(connection: socket.socket) -> bytes:
    """All that comes after the client has shut down its sending side."""
    connection.shutdown(socket.SHUT_WR)
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_only_stops_sending_gets_its_answer(stream: bool) -> None:
    service = slow()
    with serving(service) as url, connected(url) as connection:
        connection.sendall(b"".join(asking(b"HTTP/1.1", b"", stream=stream)))
        received = half_closed(connection)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert received.startswith(interim)
    answer = received.replace(interim, b"")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"lo" in answer
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else b"}")
    assert service.closed.is_set()


def test_so_does_one_that_stops_while_it_is_answered() -> None:
    service = slow()
    with serving(service) as url, connected(url) as connection:
        connection.sendall(b"".join(asking(b"HTTP/1.1", b"", stream=True)))
        received = connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 200")
        received += half_closed(connection)
    assert b": keep-alive\n\n" in received
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_one_that_is_gone_does_not(version: bytes, stream: bool) -> None:
    service = FakeService(STARTED, TextDelta("Hel"), 3600.0, TextDelta("lo"), STOP)
    with serving(service) as url:
        with connected(url) as connection:
            connection.sendall(b"".join(asking(version, b"", stream=stream)))
            if stream:
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            else:
                until = time.monotonic() + PATIENCE
                while not service.requests:
                    assert time.monotonic() < until
                    time.sleep(0.01)
        assert service.closed.wait(PATIENCE)


def passed_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def forwarded(listener: socket.socket, target: tuple[str, int]) -> None:
    """Pass on one connection, and the end of either side by itself, as proxies of TCP do."""
    near, _ = listener.accept()
    with near, closing(socket.create_connection(target)) as far:
        there = threading.Thread(target=passed_on, args=(near, far))
        there.start()
        passed_on(far, near)
        there.join()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_answer_ends_if_the_client_behind_a_proxy_is_gone(stream: bool) -> None:
    service = FakeService(STARTED, TextDelta("Hel"), 3600.0, TextDelta("lo"), STOP)
    with serving(service) as url, socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = threading.Thread(target=forwarded, args=(listener, address_of(url)))
        proxy.start()
        with closing(socket.create_connection(listener.getsockname())) as connection:
            connection.sendall(b"".join(asking(b"HTTP/1.1", b"", stream=stream)))
            until = time.monotonic() + PATIENCE
            while not service.requests:
                assert time.monotonic() < until
                time.sleep(0.01)
        assert service.closed.wait(PATIENCE)
        proxy.join(PATIENCE)
        assert not proxy.is_alive()
