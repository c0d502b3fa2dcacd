"""What the tests of real clients share. None of these clients may reach beyond this machine."""

from __future__ import annotations

import socket
import struct
import uuid
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.harness import RunningBridge

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@pytest.fixture
def base_url(bridge: RunningBridge) -> str:
    """What a client takes for the address of OpenAI's API."""
    return f"{bridge.url}/v1"


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No telemetry: it is turned off, and whatever tries to leave the machine fails the test."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING_V2"):
        monkeypatch.setenv(name, "false")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    outside: list[str] = []
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def check(host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in _LOOPBACK:
            outside.append(name)
            raise OSError(f"no test may reach {name}")

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        check(host)
        return look_up(host, *arguments, **options)

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            check(address[0])
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    yield
    assert outside == []


@pytest.fixture
def marker() -> str:
    """A word that no other conversation has, to find this one by."""
    return uuid.uuid4().hex


@pytest.fixture(scope="session")
def png_image() -> bytes:
    """One red pixel, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00")),
            chunk(b"IEND", b""),
        )
    )
