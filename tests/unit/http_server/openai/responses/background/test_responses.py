"""Responses in the background: started, retrieved, streamed again, cancelled, and kept."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from bridge.core.access.authentication import Access
from bridge.core.access.keys import parse_given
from bridge.core.answers import SqliteResponseStore, StoredResponse
from bridge.core.contract.errors import NotFoundError, UnavailableError
from bridge.core.contract.events import Event, Started, TextDelta, ThinkingDelta
from bridge.core.contract.request import CompletionRequest
from bridge.http_server.openai.responses.background import responses
from tests.support.fakes import CALLS, HELLO, STARTED, STOP, FakeService, Gate, script_of
from tests.support.harness import user
from tests.support.http.asgi import Exchange, ask, build
from tests.support.http.response_events import check_response, check_stream, parse_stream
from tests.support.waiting import soon

URL = "/v1/responses"
ASKED = {"input": "hi", "model": "opus", "background": True}
SECRETS = ("alice-secret-long-enough", "bob-secret-long-enough")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteResponseStore]:
    async with aclosing(SqliteResponseStore(tmp_path / "responses.sqlite3")) as kept:
        yield kept


def gated(gate: Gate, *events: Event) -> FakeService:
    """A service that waits after the first event."""
    return FakeService(events[0], gate, *events[1:])


async def post(app: FastAPI, **parameters: Any) -> Exchange:
    headers = parameters.pop("headers", None)
    return await ask(app, "POST", URL, {**ASKED, **parameters}, headers)


async def get(app: FastAPI, path: str) -> Exchange:
    return await ask(app, "GET", f"{URL}/{path}")


async def ended(app: FastAPI, service: FakeService, id: str) -> dict[str, Any]:
    """The response once it has ended."""
    await soon(service.answers.finished())
    reply = await get(app, id)
    assert reply.status == 200
    return check_response(reply.json)


# Starting and retrieving


async def test_a_response_is_queued_then_in_progress_then_complete(
    store: SqliteResponseStore,
) -> None:
    service = FakeService(first := Gate(), STARTED, second := Gate(), *HELLO[1:])
    app = build(service, store=store)

    reply = await post(app, metadata={"a": "b"}, truncation="auto")

    assert reply.status == 200
    assert reply.headers["x-bridge-ignored-params"] == "truncation"
    started = check_response(reply.json)
    id = started["id"]
    assert (started["status"], started["background"], started["model"]) == ("queued", True, "opus")
    assert (started["output"], started["metadata"]) == ([], {"a": "b"})
    assert (await get(app, id)).json == started
    first.opened.set()
    await soon(second.reached.wait())
    running = check_response((await get(app, id)).json)
    assert (running["status"], running["model"]) == ("in_progress", "claude-opus-5")
    second.opened.set()
    whole = await ended(app, service, id)
    assert (whole["status"], whole["store"]) == ("completed", True)
    assert whole["output"][0]["content"][0]["text"] == "Hello"
    kept = await store.get("", id)
    assert kept is not None
    assert kept.reply == whole


async def test_what_the_core_ignores_is_named_once_it_is_known(store: SqliteResponseStore) -> None:
    service = FakeService(Started("claude-opus-5", ("temperature",)), *HELLO[1:])
    app = build(service, store=store)
    id = (await post(app)).json["id"]
    await soon(service.answers.finished())
    assert (await get(app, id)).headers["x-bridge-ignored-params"] == "temperature"


async def test_a_client_may_leave(store: SqliteResponseStore) -> None:
    service = gated(gate := Gate(), *HELLO)
    app = build(service, store=store)
    exchange = Exchange(app, "POST", URL, {**ASKED, "stream": True})
    await exchange.until(lambda seen: b"response.in_progress" in seen.body)
    exchange.leave()
    await exchange.finished()
    gate.opened.set()
    assert (await ended(app, service, "resp_0001"))["status"] == "completed"


async def test_an_invalid_request_is_refused_at_once(store: SqliteResponseStore) -> None:
    service = FakeService()
    app = build(service, store=store)
    output = {"type": "function_call_output", "call_id": "nothing", "output": "1"}
    reply = await post(app, input=[output])
    assert reply.status == 400
    await soon(service.answers.finished())
    assert (await get(app, "resp_0001")).status == 404


async def test_a_response_must_be_stored(store: SqliteResponseStore) -> None:
    reply = await post(build(FakeService(), store=store), store=False)
    assert (reply.status, reply.error["param"]) == (400, "store")
    reply = await post(build(FakeService()))
    assert (reply.status, reply.error["param"]) == (400, "background")


# Streaming


@pytest.mark.parametrize("events", [HELLO, CALLS, (STARTED, ThinkingDelta("hm"), STOP)])
async def test_a_stream_has_the_events_of_the_answer_after_those_of_the_queue(
    store: SqliteResponseStore, events: tuple[Event, ...]
) -> None:
    service = FakeService(*events)
    app = build(service, store=store)
    tools = [{"type": "function", "name": name} for name in ("weather", "time")]

    reply = await post(app, stream=True, tools=tools)

    checked = check_stream(reply.body)
    assert checked.types[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert checked.last == (await get(app, "resp_0001")).json


@pytest.mark.parametrize("over", [False, True])
async def test_a_stream_resumes_after_any_number(store: SqliteResponseStore, over: bool) -> None:
    service = gated(gate := Gate(), *CALLS)
    app = build(service, store=store)
    exchange = Exchange(app, "POST", URL, {**ASKED, "stream": True})
    await exchange.until(lambda seen: b"response.in_progress" in seen.body)
    if over:
        gate.opened.set()
        await exchange.finished()
    resumed = [
        Exchange(app, "GET", f"{URL}/resp_0001?stream=true&starting_after={number}")
        for number in range(3)
    ]
    for each in resumed:
        # The reply begins before the model goes on.
        await each.until(lambda seen: bool(seen.body))
    gate.opened.set()
    whole = parse_stream((await exchange.finished()).body)
    for number, each in enumerate(resumed):
        assert parse_stream((await each.finished()).body) == whole[number + 1 :]
    for number in range(len(whole)):
        again = await get(app, f"resp_0001?stream=true&starting_after={number}")
        assert parse_stream(again.body) == whole[number + 1 :]
    for number in (len(whole), 10_000):
        beyond = await get(app, f"resp_0001?stream=true&starting_after={number}")
        assert (beyond.status, beyond.error["param"]) == (400, "starting_after")
        assert f"has the number {len(whole) - 1}," in beyond.error["message"]
    assert parse_stream((await get(app, "resp_0001?stream=true")).body) == whole


async def test_a_number_beyond_a_failed_or_a_running_answer_is_an_error(
    store: SqliteResponseStore,
) -> None:
    gate = Gate()
    service = FakeService(HELLO[0], gate, HELLO[1], UnavailableError("Gone."))
    app = build(service, store=store)
    exchange = Exchange(app, "POST", URL, {**ASKED, "stream": True})
    await exchange.until(lambda seen: b"response.in_progress" in seen.body)
    early = await get(app, "resp_0001?stream=true&starting_after=3")
    assert (early.status, early.error["param"]) == (400, "starting_after")
    gate.opened.set()
    whole = parse_stream((await exchange.finished()).body)
    last = len(whole) - 1
    assert (await get(app, f"resp_0001?stream=true&starting_after={last}")).status == 200
    assert (await get(app, f"resp_0001?stream=true&starting_after={last + 1}")).status == 400


async def test_a_response_without_a_stream_can_be_streamed_too(store: SqliteResponseStore) -> None:
    service = FakeService(*HELLO)
    app = build(service, store=store)
    id = (await post(app)).json["id"]
    assert check_stream((await get(app, f"{id}?stream=true")).body).last["status"] == "completed"


async def test_a_number_needs_a_stream(store: SqliteResponseStore) -> None:
    app = build(FakeService(), store=store)
    id = (await post(app)).json["id"]
    for query, said in (
        ("starting_after=1", "needs 'stream=true'"),
        ("starting_after=-1", "'starting_after': expected at least 0."),
        ("starting_after=last", "'starting_after': expected an integer."),
        ("stream=maybe", "'stream': expected true or false."),
    ):
        reply = await get(app, f"{id}?{query}")
        assert reply.status == 400
        assert reply.error["param"] == query.partition("=")[0]
        assert said in reply.error["message"]


# Errors


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UnavailableError("The API is overloaded."), "The API is overloaded."),
        (LookupError("secret"), "(request req_0001)"),
    ],
)
async def test_an_error_in_the_middle_fails_the_response(
    store: SqliteResponseStore, stream: bool, error: Exception, message: str
) -> None:
    service = FakeService(*HELLO[:2], error)
    app = build(service, store=store)
    reply = await post(app, stream=stream)
    failed = await ended(app, service, "resp_0001")
    assert failed["status"] == "failed"
    assert message in failed["error"]["message"]
    assert failed["output"][0]["status"] == "incomplete"
    again = await get(app, "resp_0001?stream=true")
    assert check_stream(again.body).last == failed
    if stream:
        assert parse_stream(reply.body) == parse_stream(again.body)
    kept = await store.get("", "resp_0001")
    assert kept is not None
    assert kept.reply == failed


async def test_a_response_that_cannot_be_stored_can_be_had_for_some_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SqliteResponseStore(tmp_path / "file" / "responses.sqlite3")
    service = FakeService()
    app = build(service, store=store)
    id = (await post(app)).json["id"]
    whole = await ended(app, service, id)
    assert (whole["status"], whole["store"]) == ("completed", False)
    await store.aclose()


async def test_after_a_restart_a_response_that_was_running_has_failed(
    store: SqliteResponseStore,
) -> None:
    service = gated(Gate(), *HELLO)
    before = build(service, store=store)
    id = (await post(before)).json["id"]
    service.answers = FakeService().answers

    after = build(service, store=store)

    for method, path in (("GET", id), ("POST", f"{id}/cancel")):
        failed = check_response((await ask(after, method, f"{URL}/{path}")).json)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert (await get(after, f"{id}?stream=true")).error["param"] == "stream"
    reply = await ask(after, "POST", URL, {"input": "on", "previous_response_id": id})
    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")


# Cancelling and deleting


async def test_a_response_is_cancelled(store: SqliteResponseStore) -> None:
    service = FakeService(*HELLO[:2], gate := Gate(), STOP)
    app = build(service, store=store)
    exchange = Exchange(app, "POST", URL, {**ASKED, "stream": True})
    await exchange.until(lambda seen: b'"delta":"Hel"' in seen.body)

    reply = await ask(app, "POST", f"{URL}/resp_0001/cancel")

    cancelled = check_response(reply.json)
    assert (reply.status, cancelled["status"], cancelled["error"]) == (200, "cancelled", None)
    assert service.closed.is_set()
    *_, error, last = parse_stream((await exchange.finished()).body)
    assert (error["type"], error["code"]) == ("error", "request_cancelled")
    assert (last["type"], last["response"]) == ("response.failed", cancelled)
    kept = await store.get("", "resp_0001")
    assert kept is not None
    assert kept.reply == cancelled
    for method, path in (("GET", ""), ("POST", "/cancel")):
        assert (await ask(app, method, f"{URL}/resp_0001{path}")).json == cancelled
    assert not gate.opened.is_set()


async def test_to_cancel_a_response_that_has_ended_changes_nothing(
    store: SqliteResponseStore,
) -> None:
    service = FakeService()
    app = build(service, store=store)
    await post(app)
    whole = await ended(app, service, "resp_0001")
    assert (await ask(app, "POST", f"{URL}/resp_0001/cancel")).json == whole
    service.answers = FakeService().answers
    after = build(service, store=store)
    assert (await ask(after, "POST", f"{URL}/resp_0001/cancel")).json == whole


async def test_a_response_that_runs_is_ended_by_deleting_it(store: SqliteResponseStore) -> None:
    service = gated(Gate(), *HELLO)
    app = build(service, store=store)
    await post(app)
    assert (await ask(app, "DELETE", f"{URL}/resp_0001")).status == 200
    assert service.closed.is_set()
    assert await store.get("", "resp_0001") is None


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("prefix", ["resp_", "req_"])
async def test_a_deleted_response_is_gone_at_every_api(
    store: SqliteResponseStore, over: bool, prefix: str
) -> None:
    service = FakeService(*HELLO) if over else gated(Gate(), *HELLO)
    app = build(service, store=store)
    await post(app)
    if over:
        await ended(app, service, "resp_0001")
    assert (await ask(app, "DELETE", f"{URL}/{prefix}0001")).status == 200
    for method, path in (
        ("GET", "resp_0001"),
        ("GET", "resp_0001?stream=true"),
        ("POST", "resp_0001/cancel"),
        ("DELETE", "resp_0001"),
    ):
        assert (await ask(app, method, f"{URL}/{path}")).status == 404
    with pytest.raises(NotFoundError):
        await service.attach("", "req_0001")


async def test_an_answer_that_another_api_started_can_be_deleted(
    store: SqliteResponseStore,
) -> None:
    service = FakeService()
    app = build(service, store=store)
    await service.detach(CompletionRequest((user("hi"),), request_id="req_abcd", api="grpc"))
    assert (await ask(app, "DELETE", f"{URL}/resp_abcd")).status == 200
    assert (await get(app, "resp_abcd")).status == 404


# Who may have it


async def test_a_response_does_not_exist_for_another_key(store: SqliteResponseStore) -> None:
    service = gated(gate := Gate(), *HELLO)
    access = Access(parse_given(f"alice={SECRETS[0]},bob={SECRETS[1]}"))
    app = build(service, store=store, access=access)
    alice, bob = ({"authorization": f"Bearer {secret}"} for secret in SECRETS)
    id = (await post(app, headers=alice)).json["id"]
    for method, path in (
        ("GET", id),
        ("GET", f"{id}?stream=true"),
        ("GET", f"{id}/input_items"),
        ("POST", f"{id}/cancel"),
        ("DELETE", id),
    ):
        assert (await ask(app, method, f"{URL}/{path}", headers=bob)).status == 404
    gate.opened.set()
    await soon(service.answers.finished())
    mine = await ask(app, "GET", f"{URL}/{id}", headers=alice)
    assert mine.json["status"] == "completed"


async def test_the_same_id_of_the_caller_is_the_same_response(store: SqliteResponseStore) -> None:
    service = gated(gate := Gate(), *HELLO)
    app = build(service, store=store)
    own = {"idempotency-key": "order-1"}
    first = (await post(app, headers=own)).json
    assert (await post(app, headers=own)).json["id"] == first["id"]
    other = await post(app, headers=own, input="Something else.")
    assert (other.status, other.error["code"]) == (409, "request_id_reused")
    assert other.headers["x-should-retry"] == "false"
    gate.opened.set()
    streamed = await post(app, headers=own, stream=False)
    assert streamed.json["id"] == first["id"]
    await soon(service.answers.finished())
    assert len(service.requests) == 1


async def test_an_answer_that_another_api_started_is_found_by_its_id(
    store: SqliteResponseStore,
) -> None:
    service = gated(gate := Gate(), *HELLO)
    app = build(service, store=store)
    await service.detach(CompletionRequest((user("hi"),), request_id="req_abcd", api="grpc"))
    assert (await get(app, "req_abcd")).json["status"] in ("queued", "in_progress")
    gate.opened.set()
    await soon(service.answers.finished())
    for id in ("req_abcd", "resp_abcd"):
        whole = check_response((await get(app, id)).json)
        assert (whole["id"], whole["status"]) == ("resp_abcd", "completed")
        assert check_stream((await get(app, f"{id}?stream=true")).body).last == whole


# What builds on it


async def test_a_response_that_runs_cannot_be_built_on(store: SqliteResponseStore) -> None:
    service = gated(gate := Gate(), *HELLO)
    app = build(service, store=store)
    id = (await post(app)).json["id"]
    reply = await ask(app, "POST", URL, {"input": "on", "previous_response_id": id})
    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")
    gate.opened.set()
    await soon(service.answers.finished())
    service.script = FakeService().script
    reply = await ask(app, "POST", URL, {"input": "on", "previous_response_id": id})
    assert reply.status == 200
    assert len(service.requests[-1].messages) == 3


async def test_a_conversation_gets_its_items_once(store: SqliteResponseStore) -> None:
    service = FakeService()
    app = build(service, store=store)
    conversation = (await ask(app, "POST", "/v1/conversations", {})).json["id"]
    await post(app, conversation=conversation)
    await soon(service.answers.finished())
    items = (await ask(app, "GET", f"/v1/conversations/{conversation}/items")).json["data"]
    assert [item["role"] for item in reversed(items)] == ["user", "assistant"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_is_compacted_in_the_background(
    store: SqliteResponseStore, stream: bool
) -> None:
    service = FakeService()
    app = build(service, store=store)
    said = [{"role": "user", "content": "hi"}, {"type": "compaction_trigger"}]
    reply = await post(app, input=said, stream=stream)
    whole = await ended(app, service, "resp_0001")
    assert [item["type"] for item in whole["output"]] == ["compaction"]
    again = await get(app, "resp_0001?stream=true")
    assert check_stream(again.body).last == whole
    assert not stream or parse_stream(reply.body) == parse_stream(again.body)


async def test_a_long_answer_is_collected_beside_the_loop(
    store: SqliteResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    offloaded: list[bool] = []

    async def off_loop(large: bool, work: Any, *arguments: Any) -> Any:
        offloaded.append(large)
        return await asyncio.to_thread(work, *arguments)

    monkeypatch.setattr(responses, "off_loop", off_loop)
    for pieces, large in ((2, False), (600, True)):
        service = FakeService(STARTED, *[TextDelta("x")] * pieces, STOP)
        app = build(service, store=store)
        await post(app, input=str(pieces))
        await soon(service.answers.finished())
        assert any(offloaded) is large
        # This is not stored, and so made for each request.
        await service.detach(CompletionRequest((user("hi"),), request_id=f"req_a{pieces}"))
        await soon(service.answers.finished())
        for path in (f"resp_a{pieces}", f"resp_a{pieces}?stream=true"):
            assert (await get(app, path)).status == 200
            assert offloaded.pop() is large


class SlowShelf(SqliteResponseStore):
    """A store in which one `put` waits: by its number, from 1."""

    def __init__(self, path: Path, slow: int) -> None:
        super().__init__(path)
        self.slow = slow
        self.gate = Gate()
        self.statuses: list[str] = []

    async def put(self, owner: str, response: StoredResponse) -> bool:
        self.statuses.append(response.reply["status"])
        if len(self.statuses) == self.slow:
            self.gate.reached.set()
            await self.gate.opened.wait()
        return await super().put(owner, response)


async def test_an_answer_that_ends_at_once_is_stored_last(tmp_path: Path) -> None:
    service = FakeService()
    async with aclosing(SlowShelf(tmp_path / "responses.sqlite3", slow=1)) as store:
        app = build(service, store=store)
        starting = Exchange(app, "POST", URL, ASKED)
        await soon(store.gate.reached.wait())
        answer = await service.attach("", "req_0001")
        assert [event async for _, event in answer.events()] == list(HELLO)
        store.gate.opened.set()
        await starting.finished()
        assert (await ended(app, service, "resp_0001"))["status"] == "completed"
        assert len(store.statuses) == 2
        kept = await store.get("", "resp_0001")
        assert kept is not None
        assert kept.reply["status"] == "completed"


async def test_who_has_read_the_end_is_not_told_that_it_is_in_progress(tmp_path: Path) -> None:
    service = FakeService(STARTED, UnavailableError("Overloaded."))
    async with aclosing(SlowShelf(tmp_path / "responses.sqlite3", slow=2)) as store:
        app = build(service, store=store)
        starting = Exchange(app, "POST", URL, ASKED)
        await soon(store.gate.reached.wait())
        with pytest.raises(UnavailableError):
            _ = [event async for event in (await service.attach("", "req_0001")).events()]
        asking = Exchange(app, "GET", f"{URL}/resp_0001")
        for _ in range(20):
            # Without waiting for the store, it would be answered by now.
            await asyncio.sleep(0)
        store.gate.opened.set()
        await asking.finished()
        assert check_response(asking.json)["status"] == "failed"
        await starting.finished()


async def test_a_failed_answer_is_not_added_to_its_conversation(
    store: SqliteResponseStore,
) -> None:
    service = FakeService(*HELLO[:2], UnavailableError("Overloaded."))
    app = build(service, store=store)
    conversation = (await ask(app, "POST", "/v1/conversations", {})).json["id"]
    await post(app, conversation=conversation)
    await soon(service.answers.finished())
    assert (await ask(app, "GET", f"/v1/conversations/{conversation}/items")).json["data"] == []


class BrokenShelf(SqliteResponseStore):
    """A store that fails at the end of a response, in a way of which nobody has thought."""

    async def put(self, owner: str, response: StoredResponse) -> bool:
        if response.reply["status"] == "completed":
            raise RuntimeError
        return await super().put(owner, response)


async def test_a_response_ends_even_if_storing_it_fails_unexpectedly(tmp_path: Path) -> None:
    service = FakeService()
    async with aclosing(BrokenShelf(tmp_path / "responses.sqlite3")) as store:
        app = build(service, store=store)
        await post(app)
        whole = await ended(app, service, "resp_0001")
        assert (whole["status"], whole["store"]) == ("completed", False)
        assert check_stream((await get(app, "resp_0001?stream=true")).body).last == whole


@pytest.mark.parametrize("steps", [HELLO, (STARTED, UnavailableError("Overloaded."))])
async def test_the_input_is_not_kept_in_memory_beside_the_answer(
    store: SqliteResponseStore, steps: tuple[Event | BaseException, ...]
) -> None:
    service = FakeService()
    app = build(service, store=store)
    await post(app)
    await ended(app, service, "resp_0001")
    tracemalloc.start()
    try:
        for number in range(10):
            service.script = script_of(*(copy(step) for step in steps))
            await post(app, input=f"{number}" * 1_000_000)
        await soon(service.answers.finished())
        service.requests.clear()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
