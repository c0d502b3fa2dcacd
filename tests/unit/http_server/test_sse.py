"""The writer of frames: none is lost, none waits for ever, and the client sets the pace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.core.contract.errors import ClientClosedError
from bridge.http_server import HttpSettings
from bridge.http_server.disconnect import run_until
from bridge.http_server.sse import FrameWriter
from tests.support.harness import PATIENCE
from tests.support.waiting import soon

KEEP_ALIVE = b": nothing\n\n"
HEAD = {"type": "http.response.start", "status": 200, "headers": []}
LARGE = b"x" * 70_000
"""More than may wait."""


class Client:
    """Takes what it is sent, when it may; ends prematurely after so many messages."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.messages: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.waiting = asyncio.Event()
        """Set when a write waits for it."""
        self.taken = asyncio.Event()
        self._breaks_after = breaks_after

    async def send(self, message: Any) -> None:
        if len(self.messages) == self._breaks_after:
            raise OSError("broken pipe")
        if not self.reads.is_set():
            self.waiting.set()
            await self.reads.wait()
        self.messages.append(message)
        self.taken.set()

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.messages[1:]]


async def rounds() -> None:
    """Let everybody have a few turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)


def writer_to(client: Client, **settings: float) -> FrameWriter:
    limits = HttpSettings(**settings)  # type: ignore[arg-type]
    return FrameWriter(client.send, limits, lambda: HEAD, KEEP_ALIVE)


async def test_what_is_written_at_once_goes_out_as_one_and_the_end_apart() -> None:
    client = Client()
    async with writer_to(client) as writer:
        for number in range(5):
            writer.write(b"%d;" % number)
        await soon(writer.finish())
    assert client.messages[0] == HEAD
    assert client.bodies == [b"0;1;2;3;4;", b""]
    assert [message["more_body"] for message in client.messages[1:]] == [True, False]


async def test_frames_that_come_during_a_write_follow_it_in_order() -> None:
    client = Client()
    async with writer_to(client) as writer:
        client.reads.clear()
        writer.write(b"a")
        await soon(client.waiting.wait())
        writer.write(b"b")
        writer.write(b"c")
        finishing = asyncio.ensure_future(writer.finish())
        client.reads.set()
        await soon(finishing)
    assert b"".join(client.bodies) == b"abc"
    assert client.messages[-1]["more_body"] is False


async def test_the_answer_waits_for_a_client_that_has_much_to_read() -> None:
    client = Client()
    async with writer_to(client) as writer:
        client.reads.clear()
        writer.write(b"a")
        await soon(client.waiting.wait())
        writer.write(LARGE)
        assert writer.full
        emptied = asyncio.ensure_future(writer.emptied())
        await asyncio.wait((emptied,), timeout=0.01)
        assert not emptied.done()
        client.reads.set()
        await soon(emptied)
        await soon(writer.finish())
    assert b"".join(client.bodies) == b"a" + LARGE


@pytest.mark.parametrize("breaks_after", [0, 1, 2])
async def test_a_write_that_fails_is_reported_with_the_next_frame(breaks_after: int) -> None:
    """The model must not be asked for what cannot be sent, up to the end of the answer."""
    client = Client(breaks_after)
    async with writer_to(client) as writer:
        for _ in range(2):
            writer.write(b"a")
            await rounds()
        writer.write(b"a")
        assert writer.full
        with pytest.raises(OSError, match="broken"):
            await soon(writer.emptied())
        with pytest.raises(OSError, match="broken"):
            await soon(writer.finish())


async def test_a_write_that_fails_while_it_is_waited_for_is_waited_for_no_longer() -> None:
    client = Client(breaks_after=1)
    async with writer_to(client) as writer:
        writer.write(LARGE)
        with pytest.raises(OSError, match="broken"):
            async with asyncio.timeout(PATIENCE):
                await writer.emptied()


async def test_silence_is_filled_until_the_answer_is_refused() -> None:
    client = Client()
    async with writer_to(client, keep_alive_seconds=0.01) as writer:
        watching = asyncio.ensure_future(writer.watch())
        for _ in range(2):
            client.taken.clear()
            await soon(client.taken.wait())
        assert KEEP_ALIVE in client.bodies
        writer.refuse()
        so_far = len(client.messages)
        await asyncio.wait((watching,), timeout=0.05)
        assert len(client.messages) <= so_far + 1
        watching.cancel()
        await asyncio.wait((watching,))


async def test_a_busy_stream_gets_no_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    now = 0.0
    writer = writer_to(client, keep_alive_seconds=10)
    monkeypatch.setattr(writer, "_time", lambda: now)
    writer._active_at = now

    async def looked_at() -> None:
        """Have the watcher look once at the time that it is."""
        watching = asyncio.ensure_future(writer.watch())
        await rounds()
        watching.cancel()
        await asyncio.wait((watching,))

    async with writer:
        for _ in range(5):
            now += 9
            writer.write(b"a")
            await rounds()
            await looked_at()
        assert client.bodies == [b"a"] * 5
        now += 10
        await looked_at()
        assert client.bodies == [*[b"a"] * 5, KEEP_ALIVE]
        await soon(writer.finish())


async def test_a_client_that_takes_nothing_ends_the_answer_that_waits_for_it() -> None:
    client = Client()
    client.reads.clear()
    writer = writer_to(client, stalled_client_seconds=0.02)

    async def answer() -> None:
        async with writer:
            while True:
                writer.write(LARGE)
                await writer.emptied()

    with pytest.raises(ClientClosedError):
        await soon(run_until(answer(), writer.watch()))
    assert client.messages == []
