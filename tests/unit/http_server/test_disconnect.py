"""Clients that disconnect, stop reading or wait long: the service is always released."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bridge.core.contract.errors import ClientClosedError, QueueFullError, UnavailableError
from bridge.core.contract.events import Started, TextDelta, ToolCallDelta
from bridge.http_server import HttpSettings
from tests.support.fakes import HELLO, STARTED, STOP, FakeService, Gate, Step
from tests.support.http.asgi import Exchange, build, frames

SOON = HttpSettings(keep_alive_seconds=0.01)


def begin(
    service: FakeService, *, stream: bool = True, settings: HttpSettings | None = None
) -> Exchange:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return Exchange(build(service, settings), "POST", "/v1/chat/completions", body)


# Going away


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("before", [(), (STARTED, TextDelta("a"))], ids=["first", "middle"])
async def test_a_client_that_goes_ends_the_work(stream: bool, before: tuple[Step, ...]) -> None:
    gate = Gate()
    service = FakeService(*before, gate)
    exchange = begin(service, stream=stream)
    await gate.reached.wait()

    exchange.leave()

    await exchange.finished()
    assert service.closed.is_set()
    if not (stream and before):
        assert exchange.status == 499


async def test_a_stream_that_was_left_is_not_ended_as_if_it_were_whole() -> None:
    gate = Gate()
    exchange = begin(FakeService(STARTED, gate))
    await gate.reached.wait()

    exchange.leave()

    await exchange.finished()
    assert not exchange.complete
    assert b"DONE" not in exchange.body
    assert b"error" not in exchange.body


async def test_a_client_that_goes_while_it_is_written_to_ends_the_work() -> None:
    gate = Gate()
    service = FakeService(STARTED, gate, TextDelta("a"), STOP)
    exchange = begin(service)
    await gate.reached.wait()
    exchange.blocked = asyncio.Event()
    gate.opened.set()

    exchange.leave()

    await exchange.finished()
    assert service.closed.is_set()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_gives_up_ends_the_work(stream: bool) -> None:
    gate = Gate()
    service = FakeService(STARTED, gate)
    exchange = begin(service, stream=stream)
    await gate.reached.wait()

    exchange.cancel()

    with pytest.raises(asyncio.CancelledError):
        await exchange.finished()
    assert service.closed.is_set()


async def test_a_client_that_goes_from_the_models_ends_the_wait() -> None:
    service = FakeService()
    service.models_gate = gate = Gate()
    exchange = Exchange(build(service), "GET", "/v1/models")
    await gate.reached.wait()

    exchange.leave()

    assert (await exchange.finished()).status == 499


async def test_trouble_while_an_answer_is_abandoned_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()

    class Troubled(FakeService):
        async def complete(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            try:
                yield STARTED
                gate.reached.set()
                await gate.opened.wait()
            finally:
                raise OSError("stuck")

    exchange = begin(Troubled(), stream=False)
    await gate.reached.wait()

    with caplog.at_level(logging.WARNING):
        exchange.leave()
        await exchange.finished()

    assert exchange.status == 499
    # Where it happened, but not its text, which may be anything.
    assert "OSError" in caplog.text
    assert "in complete" in caplog.text
    assert "stuck" not in caplog.text


async def test_the_end_of_the_reply_is_no_disconnect() -> None:
    """Servers report a disconnect once the reply is out; the service ends by itself before."""
    service = FakeService(*HELLO)
    exchange = begin(service)

    await exchange.finished()

    assert exchange.complete
    assert exchange.messages[-1] == {
        "type": "http.response.body",
        "body": b"",
        "more_body": False,
    }


# Waiting


async def test_a_silent_stream_is_kept_alive() -> None:
    gate = Gate()
    exchange = begin(FakeService(STARTED, gate, STOP), settings=SOON)

    await exchange.until(lambda so_far: so_far.body.count(b": keep-alive\n\n") >= 3)
    gate.opened.set()

    await exchange.finished()
    sent = frames(exchange.body)
    assert sent[1] == ": keep-alive"
    assert sent[-1] == "data: [DONE]"


async def test_nothing_is_sent_before_the_first_event_or_the_first_comment() -> None:
    gate = Gate()
    exchange = begin(FakeService(gate, *HELLO))
    await gate.reached.wait()

    assert exchange.messages == []

    gate.opened.set()
    assert (await exchange.finished()).status == 200


async def test_a_long_wait_for_the_first_event_is_kept_alive_with_status_200() -> None:
    gate = Gate()
    exchange = begin(FakeService(gate, *HELLO), settings=SOON)

    await exchange.until(lambda so_far: b": keep-alive\n\n" in so_far.body)
    gate.opened.set()

    await exchange.finished()
    assert exchange.status == 200
    sent = frames(exchange.body)
    chunks = [frame for frame in sent if frame != ": keep-alive"]
    assert len(chunks) < len(sent)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1] == "data: [DONE]"


@pytest.mark.parametrize(
    ("error", "code"),
    [(QueueFullError("full"), "queue_full"), (ValueError("secret"), "internal_error")],
)
async def test_an_error_after_the_first_comment_is_an_event(error: Exception, code: str) -> None:
    gate = Gate()
    exchange = begin(FakeService(gate, error), settings=SOON)

    await exchange.until(lambda so_far: b": keep-alive\n\n" in so_far.body)
    gate.opened.set()

    await exchange.finished()
    *comments, last = frames(exchange.body)
    assert set(comments) == {": keep-alive"}
    assert last["error"]["code"] == code
    assert exchange.complete


# Not reading


async def test_a_client_that_stops_reading_counts_as_gone() -> None:
    gate = Gate()
    service = FakeService(STARTED, gate, TextDelta("a"), STOP)
    exchange = begin(service, settings=HttpSettings(stalled_client_seconds=0.01))
    await gate.reached.wait()
    exchange.blocked = asyncio.Event()

    gate.opened.set()

    await exchange.finished()
    assert service.closed.is_set()
    assert not exchange.complete


async def test_a_client_that_does_not_even_read_comments_counts_as_gone() -> None:
    gate = Gate()
    service = FakeService(STARTED, gate)
    settings = HttpSettings(keep_alive_seconds=0.01, stalled_client_seconds=0.01)
    exchange = begin(service, settings=settings)
    await gate.reached.wait()

    exchange.blocked = asyncio.Event()

    await exchange.finished()
    assert service.closed.is_set()


async def test_the_core_may_report_that_the_client_disconnected() -> None:
    exchange = begin(FakeService(STARTED, ClientClosedError("gone")))

    await exchange.finished()

    assert b"error" not in exchange.body
    assert not exchange.complete


async def test_a_connection_that_breaks_under_a_write_is_no_second_reply() -> None:
    service = FakeService(*HELLO)
    exchange = begin(service)
    exchange.broken_after = 2

    with pytest.raises(OSError, match="broken"):
        await exchange.finished()

    assert exchange.attempts.count("http.response.start") == 1
    assert service.closed.is_set()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_fault_in_encoding_lets_the_service_go(stream: bool) -> None:
    service = FakeService(Started(None), ToolCallDelta(7, None), *HELLO)  # type: ignore[arg-type]
    exchange = begin(service, stream=stream)

    await exchange.finished()

    assert service.closed.is_set()


async def test_an_error_for_a_client_that_is_gone_raises_nothing() -> None:
    gate = Gate()
    service = FakeService(STARTED, gate, UnavailableError("x"))
    exchange = begin(service)
    await gate.reached.wait()
    gate.opened.set()
    exchange.leave()

    await exchange.finished()

    assert service.closed.is_set()
