"""What bodies may take of the memory and of the event loop before all of them is there."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import ExitStack

import pytest

from bridge.core.access import Access, Uploads, parse_given
from bridge.http_server import HttpSettings
from bridge.http_server.feeding import PIECE_BYTES, STEP_SECONDS, Feeder
from tests.integration.http_server.test_connection import answer, connected
from tests.support.fakes import FakeService
from tests.support.harness import PATIENCE
from tests.support.http.serving import serving

KEYS = {"one": "first-key-of-the-test", "other": "other-key-of-the-test"}


def post(key: str, body: bytes, length: int | None = None) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"authorization: Bearer {KEYS[key]}\r\ncontent-length: {length or len(body)}\r\n\r\n"
    )
    return head.encode() + body


HELLO = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()


def test_unfinished_bodies_of_a_key_are_bounded() -> None:
    access = Access(parse_given(",".join(f"{name}={key}" for name, key in KEYS.items())))
    uploads = Uploads(80_000)
    with serving(FakeService(), access=access, uploads=uploads) as url, ExitStack() as stack:

        def begun() -> socket.socket:
            connection = stack.enter_context(connected(url))
            connection.sendall(post("one", b"x" * 15_000, 20_000))
            return connection

        held = [begun(), begun()]
        until = time.monotonic() + PATIENCE
        while uploads.used < 30_000:
            assert time.monotonic() < until
            time.sleep(0.01)
        status, error = answer(begun())
        assert (status, error["code"]) == (429, "rate_limit_exceeded")
        assert "This key has reached its limit of 40000 bytes" in error["message"]
        with connected(url) as connection:
            connection.sendall(post("other", HELLO))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        for each in held:
            each.close()
        while uploads.used:
            assert time.monotonic() < until
            time.sleep(0.01)
        with connected(url) as connection:
            connection.sendall(post("one", HELLO))
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


class Transport(asyncio.Transport):
    """Notes whether it is read from."""

    reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def test_what_comes_at_once_is_taken_in_steps() -> None:
    loop, transport = asyncio.get_running_loop(), Transport()
    steps: list[list[int]] = [[]]
    data = bytes(range(256)) * 40
    taken = bytearray()

    def take(piece: bytes) -> None:
        taken.extend(piece)
        steps[-1].append(len(piece))
        assert transport.reading == (len(steps) == 1)
        # Longer than a whole step may take.
        time.sleep(STEP_SECONDS * 2)

    feeder = Feeder(transport, loop, take, lambda: PIECE_BYTES)
    feeder.feed(data)
    while len(taken) < len(data):
        assert not transport.reading
        steps.append([])
        # Others have their turn.
        await asyncio.sleep(0)
    assert taken == data
    assert all(sum(step) <= PIECE_BYTES for step in steps)
    await asyncio.sleep(0)
    assert transport.reading


async def test_what_is_not_wanted_yet_waits() -> None:
    loop, transport = asyncio.get_running_loop(), Transport()
    taken: list[bytes] = []

    def take(piece: bytes) -> None:
        taken.append(piece)
        feeder.pause_reading()

    feeder = Feeder(transport, loop, take, lambda: 1)
    feeder.feed(b"abc")
    await asyncio.sleep(0)
    assert taken == [b"a"]
    assert not transport.reading
    feeder.resume_reading()
    await asyncio.sleep(0)
    assert taken == [b"a", b"b"]
    feeder.stop()
    feeder.resume_reading()
    await asyncio.sleep(0)
    assert taken == [b"a", b"b"]


@pytest.mark.parametrize("chunk", [1, 1000])
def test_a_body_in_many_chunks_is_read(chunk: int) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 50_000}]}).encode()
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    service = FakeService()
    with serving(service, HttpSettings()) as url, connected(url) as connection:
        connection.sendall(head + chunks + b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert "x" * 50_000 in repr(service.requests[0])
