"""Clients that use HTTP in ways of their own, and a proxy with its defaults."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from bridge.core.access import Access, Uploads, parse_given
from bridge.core.contract.events import TextDelta
from tests.integration.http_server.test_connection import (
    answer,
    asking,
    assert_whole,
    connected,
    responses,
)
from tests.support.fakes import STARTED, STOP, FakeService
from tests.support.harness import PATIENCE
from tests.support.http.serving import serving

EXPECT = b"expect: 100-continue\r\n"


def hello() -> FakeService:
    return FakeService(STARTED, TextDelta("Hello"), STOP)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_asks_before_it_sends_its_body(stream: bool) -> None:
    head, body = asking(b"HTTP/1.1", EXPECT, stream=stream)
    with serving(hello()) as url, connected(url) as connection:
        connection.sendall(head)
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += connection.recv(1)
        assert received.startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        [response] = responses(connection, 1)
    assert_whole(response, stream=stream)


def test_is_refused_before_it_sends_it() -> None:
    head, _ = asking(b"HTTP/1.1", EXPECT, stream=False)
    access = Access(parse_given("the-only-key-there-is"))
    with serving(hello(), access=access) as url, connected(url) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_does_not_wait_for_answers(stream: bool) -> None:
    request = b"".join(asking(b"HTTP/1.1", b"", stream=stream))
    with serving(hello()) as url, connected(url) as connection:
        connection.sendall(request * 3)
        received = b""
        while received.count(b"HTTP/1.1 200") < 3 or not _is_over(received, stream):
            more = connection.recv(65536)
            assert more, received
            received += more
    assert received.count(b"Hello") == 3


def _is_over(received: bytes, stream: bool) -> bool:
    return received.endswith(b"0\r\n\r\n") if stream else received.rstrip().endswith(b"}")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_asks_for_a_web_socket_gets_its_answer(stream: bool) -> None:
    header = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    with serving(hello()) as url, connected(url) as connection:
        connection.sendall(b"".join(asking(b"HTTP/1.1", header, stream=stream)))
        [response] = responses(connection, 1)
    assert_whole(response, stream=stream)


def test_a_client_that_ends_inside_its_body() -> None:
    service, uploads = hello(), Uploads()
    head, body = asking(b"HTTP/1.1", b"", stream=False)
    with serving(service, uploads=uploads) as url, connected(url) as connection:
        connection.sendall(head + body[:-5])
        until = time.monotonic() + PATIENCE
        while not uploads.used:
            assert time.monotonic() < until
            time.sleep(0.01)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
        while uploads.used:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert service.requests == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (b"x-a: 1\nx-b: 2\r\n", "CRLF"),
        (b"x-a: 1\r\n x-b: 2\r\n", "Folded"),
        (b"x-a: 1\r\n\tx-b: 2\r\n", "Folded"),
        (b"x-a: 1\r\n\n", "CRLF"),
    ],
)
@pytest.mark.parametrize("turn", ["first", "second"])
def test_header_lines_that_proxies_read_otherwise(lines: bytes, fault: str, turn: str) -> None:
    service = hello()
    head, body = asking(b"HTTP/1.1", b"connection: close\r\n" + lines, stream=False)
    with serving(service) as url, connected(url) as connection:
        if turn == "second":
            connection.sendall(b"".join(asking(b"HTTP/1.1", b"", stream=False)))
            responses(connection, 1)
        connection.sendall(head + body)
        status, error = answer(connection)
    assert (status, error["code"]) == (400, "invalid_http")
    assert fault in error["message"]
    assert len(service.requests) == (turn == "second")


@contextmanager
def nginx(folder: Path, url: str) -> Generator[str, None, None]:
    """An nginx with its defaults in front of a server."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}"
        f"server {{ listen 127.0.0.1:{port};\n"
        f"location / {{ proxy_pass {url.removesuffix('/v1')}; }} }} }}\n"
    )
    running = subprocess.Popen(
        [program, "-p", folder, "-c", configuration, "-e", folder / "error.log"]
    )
    try:
        until = time.monotonic() + PATIENCE
        while True:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
                break
            assert running.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait(PATIENCE)


def test_through_nginx_with_its_defaults(tmp_path: Path) -> None:
    with (
        serving(hello()) as url,
        nginx(tmp_path, url) as proxied,
        httpx.Client(base_url=proxied, timeout=PATIENCE, trust_env=False) as client,
    ):
        messages = [{"role": "user", "content": "Hello" * 50_000}]
        for _ in range(2):
            whole = client.post("/chat/completions", json={"messages": messages})
            assert whole.status_code == 200, whole.text
            assert whole.json()["choices"][0]["message"]["content"] == "Hello"
            streamed = client.post("/chat/completions", json={"messages": messages, "stream": True})
            assert streamed.text.rstrip().endswith("data: [DONE]")
        wrong = client.post("/chat/completions", content="{")
        assert wrong.status_code == 400
        assert json.loads(wrong.text)["error"]["code"] == "invalid_json"
