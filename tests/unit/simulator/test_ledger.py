"""The record of received requests, as tests read it from any thread."""

import asyncio
import threading

import pytest

from bridge.simulator.ledger import Ledger


def body(text: str) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "system": "be nice"}


def test_an_exchange_has_its_question() -> None:
    ledger = Ledger()
    content = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": content},
        {"role": "system", "content": "z"},
    ]
    ledger.begin({"x-app": "cli"}, {"model": "m", "messages": messages, "system": content})
    [exchange] = ledger.exchanges()
    assert exchange.model == "m"
    assert exchange.roles == ("user", "assistant", "user", "system")
    assert exchange.last_user_text == exchange.system_text == "a\nb"
    assert exchange.messages == messages
    assert exchange.tools == []
    assert exchange.headers["x-app"] == "cli"
    assert (exchange.status, exchange.ended, exchange.ended_at) == (None, None, None)


def test_snapshots_do_not_change_and_the_first_end_counts() -> None:
    ledger = Ledger()
    number = ledger.begin({}, body("a"))
    [before] = ledger.exchanges()
    ledger.answer(number, 200, {"input_tokens": 1})
    ledger.end(number, "completed", {"input_tokens": 1, "output_tokens": 2})
    ledger.end(number, "client_closed")
    [after] = ledger.exchanges()
    assert before.ended is None
    assert (after.status, after.ended) == (200, "completed")
    assert after.usage == {"input_tokens": 1, "output_tokens": 2}
    assert after.ended_at is not None
    assert after.ended_at >= after.started_at


def test_the_oldest_go_and_what_went_may_still_end() -> None:
    ledger = Ledger(keep_requests=2)
    numbers = [ledger.begin({}, body(text)) for text in "abc"]
    assert [e.last_user_text for e in ledger.exchanges()] == ["b", "c"]
    ledger.end(numbers[0], "completed")
    ledger.clear()
    assert ledger.exchanges() == ()
    assert ledger.begin({}, body("d")) == 4


def test_exchanges_are_found_by_their_text() -> None:
    ledger = Ledger()
    for text in ("grün", "blue"):
        ledger.begin({}, body(text))
    assert [e.number for e in ledger.exchanges(containing="grün")] == [1]


def test_waiting_sees_a_change_from_another_thread() -> None:
    ledger = Ledger()
    thread = threading.Thread(target=ledger.begin, args=({}, body("a")))
    thread.start()
    assert len(ledger.wait_for(lambda found: len(found) == 1)) == 1
    thread.join()


def test_waiting_in_a_loop_sees_a_change_from_another_thread() -> None:
    ledger = Ledger()

    async def main() -> None:
        waiting = asyncio.create_task(ledger.wait_for_async(lambda found: len(found) == 2))
        ledger.begin({}, body("a"))
        await asyncio.to_thread(ledger.begin, {}, body("b"))
        assert [e.number for e in await waiting] == [1, 2]

    asyncio.run(main())


def test_waiting_in_vain_reports_what_was_seen() -> None:
    ledger = Ledger()
    ledger.begin({}, body("what I asked"))
    with pytest.raises(TimeoutError, match=r"1 exchanges\n.*m user .*what I asked"):
        ledger.wait_for(lambda found: False, timeout=0.01)
    with pytest.raises(TimeoutError, match="what I asked"):
        asyncio.run(ledger.wait_for_async(lambda found: False, timeout=0.01))
