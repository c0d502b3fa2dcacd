"""Answers by id: streamed or detached, claimed, attached to, cancelled; and the server's end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from bridge.core.answers.recording import Recording
from bridge.core.answers.recordings import RecordingLimits
from bridge.core.answers.running import Answers
from bridge.core.contract.errors import (
    AnswerTooLargeError,
    DrainingError,
    InternalError,
    NotFoundError,
    QueueFullError,
    RateLimitedError,
    RequestCancelledError,
    RequestIdInUseError,
    UnavailableError,
)
from bridge.core.contract.events import Event, TextDelta
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.service import DetachedAnswer
from tests.support.fakes import HELLO, STARTED, FakeService, Gate
from tests.support.harness import user
from tests.support.waiting import soon

ASKED = CompletionRequest((user("Hello?"),), request_id="req_1", owner="laptop")
OWN_ID = replace(ASKED, client_request_id="order-1")
AGAIN = replace(OWN_ID, request_id="req_2")


async def all_of(events: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in events]


async def numbered(answer: DetachedAnswer, after: int = 0) -> list[tuple[int, Event]]:
    return [each async for each in answer.events(after)]


# Streamed answers


async def test_an_answer_can_be_cancelled_by_its_id_while_it_waits() -> None:
    service = FakeService(STARTED, gate := Gate())
    answering = asyncio.ensure_future(all_of(service.complete(ASKED)))
    await soon(gate.reached.wait())
    await service.cancel("laptop", "req_1")
    with pytest.raises(RequestCancelledError):
        await soon(answering)
    assert service.closed.is_set()


async def test_an_answer_can_be_cancelled_while_its_client_does_not_read() -> None:
    service = FakeService(*HELLO)
    async with aclosing(service.complete(ASKED)) as events:
        await anext(events)
        await service.cancel("laptop", "req_1")
        with pytest.raises(RequestCancelledError):
            await anext(events)
    assert service.closed.is_set()


async def test_an_answer_can_be_cancelled_by_the_callers_own_id() -> None:
    service = FakeService(gate := Gate())
    answering = asyncio.ensure_future(all_of(service.complete(OWN_ID)))
    await soon(gate.reached.wait())
    await service.cancel("laptop", "order-1")
    with pytest.raises(RequestCancelledError):
        await soon(answering)


async def test_cancelling_a_complete_answer_does_not_make_it_fail() -> None:
    service = FakeService(*HELLO, gate := Gate())
    answering = asyncio.ensure_future(all_of(service.complete(ASKED)))
    await soon(gate.reached.wait())
    await service.cancel("laptop", "req_1")
    gate.opened.set()
    assert await soon(answering) == [*HELLO]


async def test_a_client_that_has_left_is_not_told_of_a_cancelled_request() -> None:
    service = FakeService(gate := Gate())
    answering = asyncio.ensure_future(all_of(service.complete(ASKED)))
    await soon(gate.reached.wait())
    answering.cancel()
    await service.cancel("laptop", "req_1")
    with pytest.raises(asyncio.CancelledError):
        await soon(answering)


async def test_a_cancelled_answer_that_fails_otherwise_leaves_its_task_uncancelled() -> None:
    waiting = asyncio.Event()

    async def fails(
        request: CompletionRequest, queued: Callable[[], None], cancelled: Callable[[], bool]
    ) -> AsyncGenerator[Event, None]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield STARTED
        finally:
            raise UnavailableError("gone")

    answers = Answers(fails, FakeService().refused)

    async def asked() -> int:
        with pytest.raises(UnavailableError):
            await all_of(answers.complete(ASKED))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    asking = asyncio.ensure_future(asked())
    await soon(waiting.wait())
    await answers.cancel("laptop", "req_1")
    assert await soon(asking) == 0


async def test_a_client_that_leaves_is_not_a_cancelled_request() -> None:
    service = FakeService(gate := Gate())
    answering = asyncio.ensure_future(all_of(service.complete(ASKED)))
    await soon(gate.reached.wait())
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(answering)


@pytest.mark.parametrize(("owner", "id"), [("phone", "req_1"), ("laptop", "req_2")])
async def test_only_its_owner_can_cancel_a_request(owner: str, id: str) -> None:
    service = FakeService(*HELLO)
    async with aclosing(service.complete(ASKED)) as events:
        await anext(events)
        with pytest.raises(NotFoundError) as error:
            await service.cancel(owner, id)
        assert error.value.field == "request_id"
        assert await all_of(events) == list(HELLO[1:])
    with pytest.raises(NotFoundError):
        await service.cancel("laptop", "req_1")


# The caller's own ids


async def test_an_id_is_never_answered_twice() -> None:
    service = FakeService(*HELLO)
    assert await all_of(service.complete(OWN_ID)) == list(HELLO)
    with pytest.raises(RequestIdInUseError):
        await all_of(service.complete(AGAIN))
    assert len(service.requests) == 1
    assert await all_of(service.complete(replace(AGAIN, owner="phone"))) == list(HELLO)


async def test_a_refused_use_of_an_id_is_recorded() -> None:
    service, refused = FakeService(*HELLO), []
    answers = Answers(service._answered, lambda request, error: refused.append((request, error)))
    await all_of(answers.complete(OWN_ID))
    for again in (all_of(answers.complete(AGAIN)), answers.detach(AGAIN)):
        with pytest.raises(RequestIdInUseError):
            await again
    assert [request.request_id for request, _ in refused] == ["req_2", "req_2"]


async def test_an_id_is_free_after_a_failure_without_an_answer() -> None:
    service = FakeService(UnavailableError("Overloaded."))
    for each in (OWN_ID, AGAIN):
        with pytest.raises(UnavailableError):
            await all_of(service.complete(each))
        with pytest.raises(UnavailableError):
            await soon(numbered(await soon(service.detach(each))))
    assert len(service.requests) == 4


async def test_an_id_stays_taken_after_a_failure_in_the_middle() -> None:
    service = FakeService(STARTED, UnavailableError("Overloaded."))
    with pytest.raises(UnavailableError):
        await all_of(service.complete(OWN_ID))
    with pytest.raises(RequestIdInUseError):
        await all_of(service.complete(AGAIN))


# Detached answers


async def test_an_answer_goes_on_without_its_client() -> None:
    service = FakeService(STARTED, gate := Gate(), *HELLO[1:])
    answer = await soon(service.detach(ASKED))
    async with aclosing(answer.events()) as events:
        assert await soon(anext(events)) == (1, STARTED)
    gate.opened.set()
    found = await service.attach("laptop", "req_1")
    assert await soon(numbered(found, 1)) == list(enumerate(HELLO, start=1))[1:]
    assert (found.ended, found.error, found.request_id) == (True, None, "req_1")


async def test_an_answer_is_its_owners_alone() -> None:
    service = FakeService(*HELLO)
    await soon(service.detach(ASKED))
    with pytest.raises(NotFoundError) as error:
        await service.attach("phone", "req_1")
    assert (error.value.reason, error.value.field) == ("ANSWER_NOT_FOUND", "request_id")


async def test_an_equal_request_with_the_same_id_attaches() -> None:
    service = FakeService(STARTED, gate := Gate(), *HELLO[1:])
    first = await soon(service.detach(OWN_ID))
    second = await soon(service.detach(AGAIN))
    assert second is first is await service.attach("laptop", "order-1")
    gate.opened.set()
    assert [event for _, event in await soon(numbered(second))] == list(HELLO)
    assert await soon(service.detach(AGAIN)) is first
    assert len(service.requests) == 1


async def test_an_equal_request_is_refused_once_the_answer_is_no_longer_kept() -> None:
    service = FakeService(*HELLO)
    answers = Answers(service._answered, service.refused, RecordingLimits(seconds=0.0))
    answer = await soon(answers.detach(OWN_ID))
    await soon(numbered(answer))
    with pytest.raises(RequestIdInUseError, match="answered already"):
        await soon(answers.detach(AGAIN))


async def test_a_request_that_is_refused_is_an_error_at_once() -> None:
    """As without detaching it: clients retry by the status."""
    service = FakeService(QueueFullError("32 requests are already waiting."))

    def refuses(
        request: CompletionRequest, queued: Callable[[], None], cancelled: Callable[[], bool]
    ) -> AsyncGenerator[Event, None]:
        return service.script(request)

    answers = Answers(refuses, service.refused)
    with pytest.raises(QueueFullError):
        await soon(answers.detach(ASKED))
    with pytest.raises(NotFoundError):
        await answers.attach("laptop", "req_1")


async def test_a_request_returns_once_it_waits_for_a_process() -> None:
    service = FakeService(gate := Gate(), *HELLO)
    answer = await soon(service.detach(ASKED))
    assert (list(answer.recorded), answer.ended) == ([], False)
    gate.opened.set()
    assert [event for _, event in await soon(numbered(answer))] == list(HELLO)


async def test_a_client_that_leaves_before_it_knows_the_id_ends_the_answer() -> None:
    service = FakeService()
    entered = asyncio.Event()
    ended = asyncio.Event()

    async def never_admitted(
        request: CompletionRequest, queued: Callable[[], None], cancelled: Callable[[], bool]
    ) -> AsyncGenerator[Event, None]:
        entered.set()
        try:
            await asyncio.Event().wait()
            yield STARTED
        finally:
            ended.set()

    answers = Answers(never_admitted, service.refused)
    detaching = asyncio.ensure_future(answers.detach(ASKED))
    await soon(entered.wait())
    detaching.cancel()
    await soon(ended.wait())
    await soon(answers.finished())


@pytest.mark.parametrize("id", ["req_1", "order-1"])
async def test_a_detached_answer_can_be_cancelled(id: str) -> None:
    service = FakeService(STARTED, Gate())
    answer = await soon(service.detach(OWN_ID))
    reading = asyncio.ensure_future(numbered(answer))
    await asyncio.sleep(0)
    await soon(service.cancel("laptop", id))
    assert isinstance(answer.error, RequestCancelledError)
    with pytest.raises(RequestCancelledError):
        await soon(reading)
    await soon(service.cancel("laptop", id))
    assert service.closed.is_set()


async def test_cancelling_an_answer_that_has_ended_changes_nothing() -> None:
    service = FakeService(*HELLO)
    answer = await soon(service.detach(ASKED))
    await soon(numbered(answer))
    await soon(service.cancel("laptop", "req_1"))
    assert answer.error is None


async def test_cancelling_a_complete_answer_changes_nothing_while_it_is_cleaned_up() -> None:
    service = FakeService(*HELLO, gate := Gate())
    answer = await soon(service.detach(ASKED))
    await soon(gate.reached.wait())
    cancelling = asyncio.ensure_future(service.cancel("laptop", "req_1"))
    await asyncio.sleep(0)
    gate.opened.set()
    await soon(cancelling)
    assert answer.error is None


async def test_an_answer_can_be_cancelled_before_it_has_begun() -> None:
    service, refused = FakeService(*HELLO), []
    answers = Answers(service._answered, lambda request, error: refused.append(request.request_id))
    detaching = asyncio.ensure_future(answers.detach(OWN_ID))
    cancelling = asyncio.ensure_future(answers.cancel("laptop", "order-1"))
    with pytest.raises(RequestCancelledError):
        await soon(detaching)
    await soon(cancelling)
    assert refused == ["req_1"]
    # The id is free again: nothing was paid for.
    assert len(await numbered(await soon(answers.detach(AGAIN)))) == len(HELLO)


@pytest.mark.parametrize("over", [False, True])
async def test_a_forgotten_answer_is_ended_and_no_longer_kept(over: bool) -> None:
    service = FakeService(*HELLO) if over else FakeService(STARTED, Gate())
    answer = await soon(service.detach(ASKED))
    if over:
        await soon(numbered(answer))
    assert not await soon(service.forget("phone", "req_1"))
    assert await soon(service.forget("laptop", "req_1"))
    assert answer.ended
    with pytest.raises(NotFoundError):
        await service.attach("laptop", "req_1")
    assert not await soon(service.forget("laptop", "req_1"))


async def test_errors_are_recorded() -> None:
    service = FakeService(STARTED, UnavailableError("Overloaded."))
    answer = await soon(service.detach(ASKED))
    with pytest.raises(UnavailableError, match="Overloaded"):
        await soon(numbered(answer))
    with pytest.raises(UnavailableError, match="Overloaded"):
        await soon(numbered(await service.attach("laptop", "req_1")))


async def test_faults_of_the_bridge_are_logged_and_not_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = FakeService(STARTED, LookupError("secret"))
    answer = await soon(service.detach(ASKED))
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError):
        await soon(numbered(answer))
    assert "request req_1 failed" in caplog.text


async def test_an_answer_that_is_too_large_is_ended() -> None:
    service = FakeService(STARTED, TextDelta("x" * 10_000), Gate())
    limits = RecordingLimits(total_bytes=20_000)
    answers = Answers(service._answered, service.refused, limits)
    answer = await soon(answers.detach(ASKED))
    with pytest.raises(AnswerTooLargeError):
        await soon(numbered(answer))
    await service.until_closed()


async def test_what_answers_learns_why_its_answer_cannot_be_kept() -> None:
    ends: list[BaseException] = []

    async def endless(
        request: CompletionRequest, queued: Callable[[], None], cancelled: Callable[[], bool]
    ) -> AsyncGenerator[Event, None]:
        queued()
        try:
            while True:
                yield TextDelta("x" * 1_000)
        except BaseException as end:
            ends.append(end)
            raise

    answers = Answers(endless, FakeService().refused, RecordingLimits(total_bytes=10_000))
    answer = await soon(answers.detach(ASKED))
    await soon(answers.finished())
    assert isinstance(answer.error, AnswerTooLargeError)
    assert [type(end) for end in ends] == [AnswerTooLargeError]


async def test_a_key_can_have_so_many_detached_answers_running() -> None:
    service = FakeService(STARTED, Gate())
    answers = Answers(service._answered, service.refused, RecordingLimits(per_owner=1))
    await soon(answers.detach(OWN_ID))
    other = replace(OWN_ID, request_id="req_2", client_request_id="order-2")
    for _ in range(2):
        with pytest.raises(RateLimitedError):
            await soon(answers.detach(other))
    await soon(answers.cancel("laptop", "req_1"))
    await soon(answers.detach(other))
    await soon(answers.cancel("laptop", "req_2"))


# The end of the server


async def test_a_drain_waits_for_detached_answers_and_for_what_follows() -> None:
    service = FakeService(STARTED, gate := Gate(), *HELLO[1:])
    stored = asyncio.Event()
    storing = Gate()

    async def store(answer: DetachedAnswer) -> None:
        assert [*answer.recorded] == list(HELLO)
        storing.reached.set()
        await storing.opened.wait()
        stored.set()

    await soon(service.detach(ASKED, store))
    draining = asyncio.ensure_future(service.answers.finished())
    await asyncio.sleep(0)
    gate.opened.set()
    await soon(storing.reached.wait())
    assert not draining.done()
    storing.opened.set()
    await soon(draining)
    assert stored.is_set()


async def test_what_follows_an_answer_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService(*HELLO)

    async def fail(answer: DetachedAnswer) -> None:
        raise LookupError

    answer = await soon(service.detach(ASKED, fail))
    with caplog.at_level(logging.ERROR):
        await soon(service.answers.finished())
    assert "req_1" in caplog.text
    assert answer.error is None


async def test_the_end_of_the_server_ends_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.core.answers.running._END_SECONDS", 0.01)
    service = FakeService(STARTED, Gate())
    ended: list[DetachedAnswer] = []

    async def note(answer: DetachedAnswer) -> None:
        ended.append(answer)

    answer = await soon(service.detach(ASKED, note))
    assert isinstance(answer, Recording)
    await soon(service.answers.aclose())
    assert isinstance(answer.error, DrainingError)
    assert ended == [answer]
    with pytest.raises(NotFoundError):
        await service.attach("laptop", "req_1")
