"""The Responses API at the app: what is answered, kept, found again and gone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openai.types.responses import Response, ResponseItemList

from bridge.core.access.authentication import Access
from bridge.core.access.keys import KeyFile, parse_given
from bridge.core.answers import SqliteResponseStore, StoredResponse
from bridge.core.contract.errors import QueueFullError, UnavailableError
from bridge.core.contract.events import (
    Finished,
    FinishReason,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import CompletionRequest, TextPart, ToolCallPart, ToolResultPart
from bridge.http_server import HttpSettings
from tests.support.fakes import CALLS, STARTED, USAGE, FakeService, Gate
from tests.support.harness import assistant, user
from tests.support.http.asgi import Exchange, ask, build
from tests.support.http.response_events import check_response, check_stream

URL = "/v1/responses"
SECRETS = ("alice-secret-long-enough", "bob-secret-long-enough")
CALL = (
    STARTED,
    TextDelta("I look."),
    ToolCallStart(0, "toolu_1", "look"),
    ToolCallDelta(0, '{"at": 1}'),
    Finished(FinishReason.TOOL_CALLS, USAGE),
)


def on_disk(folder: Path, text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


class Shelf(SqliteResponseStore):
    """A store that can be made to wait, or to fail as a full disk does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate: Gate | None = None
        self.full = False

    async def put(self, owner: str, response: StoredResponse) -> bool:
        if self.gate is not None:
            self.gate.reached.set()
            await self.gate.opened.wait()
        return not self.full and await super().put(owner, response)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with aclosing(Shelf(tmp_path / "responses.sqlite3")) as shelf:
        yield shelf


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def app(service: FakeService, store: Shelf) -> FastAPI:
    return build(service, store=store)


async def respond(
    app: FastAPI, headers: Mapping[str, str] | None = None, **parameters: Any
) -> Exchange:
    """Ask for a response and wait for the whole of it."""
    body = {"input": "hi", "model": "opus", **parameters}
    return await ask(app, "POST", URL, body, headers)


async def created(app: FastAPI, **parameters: Any) -> dict[str, Any]:
    reply = await respond(app, **parameters)
    assert reply.status == 200, reply.body
    return check_response(reply.json)


async def get(app: FastAPI, path: str, headers: Mapping[str, str] | None = None) -> Exchange:
    return await ask(app, "GET", f"{URL}/{path}", headers=headers)


# Answering


async def test_a_response_is_answered_whole(app: FastAPI, service: FakeService) -> None:
    reply = await respond(app, instructions="Be brief.", metadata={"a": "b"})

    response = check_response(reply.json)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert response["id"] == "resp_0001"
    assert response["created_at"] == response["completed_at"] == 1_700_000_000
    assert (response["instructions"], response["metadata"]) == ("Be brief.", {"a": "b"})
    assert Response.model_validate(response).output_text == "Hello"
    assert service.closed.is_set()
    assert service.requests[0].request_id == "req_0001"
    assert service.requests[0].system == "Be brief."


async def test_a_response_is_answered_as_a_stream(app: FastAPI, service: FakeService) -> None:
    reply = await respond(app, stream=True)

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.complete
    checked = check_stream(reply.body)
    assert checked.last["output"][0]["content"][0]["text"] == "Hello"
    assert service.closed.is_set()


async def test_streamed_and_whole_are_the_same(store: Shelf) -> None:
    streamed = await respond(build(FakeService(*CALLS), store=store), stream=True)
    whole = await respond(build(FakeService(*CALLS)))

    last = check_stream(streamed.body).last
    assert last | {"store": None} == whole.json | {"store": None}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_ignored_is_named_in_a_header(app: FastAPI, stream: bool) -> None:
    reply = await respond(app, stream=stream, truncation="auto", top_k=3)

    assert reply.headers["x-bridge-ignored-params"] == "truncation,top_k"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_answer_has_a_status(store: Shelf, stream: bool) -> None:
    app = build(FakeService(QueueFullError("Full.")), store=store)

    reply = await respond(app, stream=stream)

    assert (reply.status, reply.error["code"]) == (429, "queue_full")


async def test_an_error_in_the_middle_ends_the_stream_and_keeps_nothing(store: Shelf) -> None:
    app = build(FakeService(STARTED, TextDelta("Hel"), UnavailableError("It broke.")), store=store)

    checked = check_stream((await respond(app, stream=True)).body)

    assert checked.types[-2:] == ["error", "response.failed"]
    assert checked.last["error"]["message"] == "It broke."
    assert (await get(app, checked.response_id)).status == 404


async def test_an_answer_that_stops_is_an_error(store: Shelf) -> None:
    app = build(FakeService(STARTED, TextDelta("Hel")), store=store)

    assert check_stream((await respond(app, stream=True)).body).last["status"] == "failed"
    assert (await respond(app)).status == 503


async def test_an_answer_that_was_cut_is_incomplete_and_kept(store: Shelf) -> None:
    end = Finished(FinishReason.LENGTH, USAGE)
    app = build(FakeService(STARTED, TextDelta("Hel"), end), store=store)

    response = await created(app)

    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (await get(app, response["id"])).json == response


async def test_a_body_of_the_other_api_is_refused_with_the_right_url(app: FastAPI) -> None:
    messages = [{"role": "user", "content": "hi"}]
    here = await ask(app, "POST", URL, {"messages": messages})
    there = await ask(app, "POST", "/v1/chat/completions", {"input": "hi"})

    assert (here.status, here.error["param"]) == (400, "input")
    assert "POST /v1/chat/completions" in here.error["message"]
    assert (there.status, there.error["param"]) == (400, "messages")
    assert "POST /v1/responses" in there.error["message"]


async def test_strict_mode(app: FastAPI, service: FakeService) -> None:
    reply = await respond(app, {"x-bridge-strict": "true"}, truncation="auto")
    by_setting = await respond(build(service, HttpSettings(strict=True)), truncation="auto")

    for each in (reply, by_setting):
        assert (each.status, each.error["param"]) == (400, "truncation")


async def test_a_client_that_leaves_ends_the_work_and_keeps_nothing(store: Shelf) -> None:
    service = FakeService(STARTED, TextDelta("Hel"), Gate())
    app = build(service, store=store)
    exchange = Exchange(app, "POST", URL, {"input": "hi", "stream": True})
    await exchange.until(lambda seen: b'"delta":"Hel"' in seen.body)

    exchange.leave()
    await exchange.finished()

    assert service.closed.is_set()
    assert (await get(app, "resp_0001")).status == 404


# Keeping


async def test_a_response_is_found_again_as_it_was_answered(app: FastAPI) -> None:
    whole = await created(app)
    streamed = check_stream((await respond(app, stream=True)).body).last

    for response in (whole, streamed):
        assert response["store"] is True
        assert (await get(app, response["id"])).json == response


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_stored_before_its_end_is_sent(store: Shelf, stream: bool) -> None:
    app = build(FakeService(), store=store)
    store.gate = Gate()
    exchange = Exchange(app, "POST", URL, {"input": "hi", "stream": stream})
    await store.gate.reached.wait()

    assert b'completed_at":1' not in exchange.body
    store.gate.opened.set()
    await exchange.finished()
    assert b'completed_at":1' in exchange.body


async def test_a_response_that_is_not_to_be_kept_is_not(app: FastAPI, tmp_path: Path) -> None:
    response = await created(app, input="a word of its own", store=False)
    await created(app, input="another")

    assert response["store"] is False
    assert (await get(app, response["id"])).status == 404
    reply = await respond(app, previous_response_id=response["id"])
    assert (reply.status, reply.error["code"]) == (404, "previous_response_not_found")
    assert on_disk(tmp_path, "another")
    assert not on_disk(tmp_path, "a word of its own")


async def test_a_server_that_stores_nothing_reports_that(service: FakeService) -> None:
    app = build(service)
    reply = await respond(app, store=True)

    assert reply.headers["x-bridge-ignored-params"] == "store"
    assert reply.json["store"] is False
    for path in (reply.json["id"], f"{reply.json['id']}/input_items"):
        assert (await get(app, path)).error["code"] == "response_not_found"
    assert (await ask(app, "DELETE", f"{URL}/resp_1")).status == 404


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_disk_costs_the_keeping_and_not_the_answer(
    app: FastAPI, store: Shelf, stream: bool
) -> None:
    store.full = True
    reply = await respond(app, stream=stream)

    assert reply.status == 200
    response = check_stream(reply.body).last if stream else reply.json
    assert (response["status"], response["store"]) == ("completed", False)


async def test_a_file_that_cannot_be_read_is_a_clear_error(
    tmp_path: Path, service: FakeService
) -> None:
    (tmp_path / "file").write_bytes(b"no database, but something else" * 100)
    async with aclosing(SqliteResponseStore(tmp_path / "file")) as broken:
        app = build(service, store=broken)
        answered = await respond(app)
        refused = await respond(app, previous_response_id="resp_1")
    assert (answered.status, answered.json["store"]) == (200, False)
    assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
    assert refused.headers["x-should-retry"] == "false"
    assert len(service.requests) == 1


# Building on what is kept


async def test_a_request_builds_on_a_response(app: FastAPI, service: FakeService) -> None:
    first = await created(app, input="one")
    second = await created(app, input="two", previous_response_id=first["id"])
    await created(app, input="three", previous_response_id=second["id"])

    assert second["previous_response_id"] == first["id"]
    assert service.requests[-1].messages == (
        user("one"),
        assistant("Hello"),
        user("two"),
        assistant("Hello"),
        user("three"),
    )


async def test_instructions_are_not_inherited(app: FastAPI, service: FakeService) -> None:
    first = await created(app, instructions="Be brief.")
    await created(app, previous_response_id=first["id"])
    third = await created(app, previous_response_id=first["id"], instructions="Be long.")

    assert [request.system for request in service.requests] == ["Be brief.", None, "Be long."]
    assert third["instructions"] == "Be long."


async def test_outputs_answer_the_calls_of_the_response_before(store: Shelf) -> None:
    service = FakeService(*CALL)
    app = build(service, store=store)
    first = await created(app, input="look")
    output = {"type": "function_call_output", "call_id": "toolu_1", "output": "seen"}

    await created(app, previous_response_id=first["id"], input=[output])

    assert service.requests[-1].messages == (
        user("look"),
        assistant("I look.", ToolCallPart("toolu_1", "look", '{"at": 1}')),
        user(ToolResultPart("toolu_1", (TextPart("seen"),))),
    )
    other = {**output, "call_id": "toolu_2"}
    unknown = await respond(app, previous_response_id=first["id"], input=[other])
    assert (unknown.status, unknown.error["param"]) == (400, "input[0].call_id")
    unanswered = await respond(app, previous_response_id=first["id"], input="well?")
    assert (unanswered.status, unanswered.error["param"]) == (400, "input")


async def test_what_the_assistant_said_since_comes_with_the_outputs(store: Shelf) -> None:
    service = FakeService(*CALL)
    app = build(service, store=store)
    first = await created(app, input="look")
    said = {"role": "assistant", "content": "One moment."}
    output = {"type": "function_call_output", "call_id": "toolu_1", "output": "seen"}
    call = ToolCallPart("toolu_1", "look", '{"at": 1}')
    result = user(ToolResultPart("toolu_1", (TextPart("seen"),)))

    for items in ([said, output], [said, output, {"role": "user", "content": "well?"}]):
        await created(app, previous_response_id=first["id"], input=items)

    assert service.requests[-2].messages[1:] == (assistant("I look.", call, "One moment."), result)
    (answer,) = result.parts
    assert service.requests[-1].messages[2] == user(answer, "well?")
    alone = await respond(app, previous_response_id=first["id"], input=[said])
    assert (alone.status, alone.error["param"]) == (400, "input")


async def test_a_parent_has_as_many_children_as_wanted(app: FastAPI, service: FakeService) -> None:
    root = await created(app, input="root")
    left = await created(app, input="left", previous_response_id=root["id"])
    await created(app, input="right", previous_response_id=root["id"])
    await created(app, input="more", previous_response_id=left["id"])

    def texts(request: CompletionRequest) -> list[str]:
        parts = [part for message in request.messages for part in message.parts]
        return [part.text for part in parts if isinstance(part, TextPart)]

    said = [texts(request) for request in service.requests[-2:]]
    assert said == [["root", "Hello", "right"], ["root", "Hello", "left", "Hello", "more"]]


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_parent_that_is_not_there_is_a_clear_404(app: FastAPI, deleted: bool) -> None:
    id = "resp_never"
    if deleted:
        id = (await created(app))["id"]
        await ask(app, "DELETE", f"{URL}/{id}")

    reply = await respond(app, previous_response_id=id)

    assert reply.status == 404
    assert reply.error["code"] == "previous_response_not_found"
    assert reply.error["param"] == "previous_response_id"
    assert id in reply.error["message"]


async def test_an_item_can_be_referred_to(store: Shelf) -> None:
    service = FakeService(*CALL)
    app = build(service, store=store)
    first = await created(app, input="look")
    references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    output = {"type": "function_call_output", "call_id": "toolu_1", "output": "seen"}

    await created(app, input=[{"role": "user", "content": "look"}, *references, output])

    assert service.requests[-1].messages[1] == assistant(
        "I look.", ToolCallPart("toolu_1", "look", '{"at": 1}')
    )


@pytest.mark.parametrize("id", ["msg_0002_7", "msg_ffff_0", "made up"])
async def test_a_reference_to_nothing_is_a_clear_404(app: FastAPI, id: str) -> None:
    await created(app)

    reply = await respond(app, input=[{"type": "item_reference", "id": id}])

    assert (reply.status, reply.error["code"]) == (404, "item_not_found")
    assert id in reply.error["message"]


async def refuse_all(app: FastAPI, mine: dict[str, Any], stranger: Mapping[str, str]) -> None:
    """Show that a key gets nothing of another's response."""
    path = f"{URL}/{mine['id']}"
    for method, where in (
        ("GET", path),
        ("GET", f"{path}/input_items"),
        ("POST", f"{path}/cancel"),
        ("DELETE", path),
    ):
        assert (await ask(app, method, where, headers=stranger)).status == 404
    item = {"type": "item_reference", "id": mine["output"][0]["id"]}
    for parameters in ({"previous_response_id": mine["id"]}, {"input": [item]}):
        assert (await respond(app, stranger, **parameters)).status == 404


async def test_a_key_sees_its_own_responses_only(service: FakeService, store: Shelf) -> None:
    access = Access(parse_given(f"alice={SECRETS[0]},bob={SECRETS[1]}"))
    app = build(service, store=store, access=access)
    alice, bob = ({"authorization": f"Bearer {secret}"} for secret in SECRETS)
    mine = (await respond(app, alice)).json

    await refuse_all(app, mine, bob)

    item = {"type": "item_reference", "id": mine["output"][0]["id"]}
    for parameters in ({"previous_response_id": mine["id"]}, {"input": [item]}):
        assert (await respond(app, alice, **{"input": "x", **parameters})).status in (200, 400)
    path = f"{URL}/{mine['id']}"
    assert (await ask(app, "DELETE", path, headers=alice)).status == 200


async def test_a_new_key_of_the_name_of_a_revoked_one_gets_nothing_of_it(
    service: FakeService, store: Shelf, tmp_path: Path
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    before = file.add("phone")
    app = build(service, store=store, access=Access(store=file))
    mine = (await respond(app, {"authorization": f"Bearer {before}"})).json
    file.revoke("phone")
    after = file.add("phone")

    await refuse_all(app, mine, {"authorization": f"Bearer {after}"})


async def test_what_is_referred_to_is_bounded_as_a_body_is(
    service: FakeService, store: Shelf
) -> None:
    app = build(service, HttpSettings(max_body_bytes=5_000), store=store)
    texts = ["a" * 2_000, "b" * 2_000, "c" * 2_000]
    asked = [await created(app, input=text) for text in texts]
    items = [(await get(app, f"{each['id']}/input_items")).json["data"][0] for each in asked]
    references = [{"type": "item_reference", "id": item["id"]} for item in items]

    reply = await respond(app, input=references)

    assert (reply.status, reply.error["param"]) == (413, "input")
    assert (await respond(app, input=references[:2])).status == 200


# The other URLs


async def test_a_response_is_deleted(app: FastAPI) -> None:
    id = (await created(app))["id"]

    reply = await ask(app, "DELETE", f"{URL}/{id}")

    assert reply.json == {"id": id, "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        gone = await ask(app, method, f"{URL}/{id}")
        assert (gone.status, gone.error["code"]) == (404, "response_not_found")


async def test_a_wrong_method_is_refused_with_the_supported_ones(app: FastAPI) -> None:
    reply = await ask(app, "PUT", f"{URL}/resp_1")

    assert (reply.status, reply.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert "Use DELETE, GET, HEAD." in reply.error["message"]


async def test_only_what_runs_in_the_background_is_cancelled(app: FastAPI) -> None:
    id = (await created(app))["id"]

    reply = await ask(app, "POST", f"{URL}/{id}/cancel")

    assert (reply.status, reply.error["param"]) == (400, "response_id")
    assert "background" in reply.error["message"]
    assert (await ask(app, "POST", f"{URL}/resp_never/cancel")).status == 404


async def test_a_response_that_runs_is_not_cancelled_but_left(store: Shelf) -> None:
    service = FakeService(STARTED, TextDelta("Hel"), Gate())
    app = build(service, store=store)
    exchange = Exchange(app, "POST", URL, {"input": "hi", "stream": True})
    await exchange.until(lambda seen: b'"delta":"Hel"' in seen.body)

    reply = await ask(app, "POST", f"{URL}/resp_0001/cancel")

    assert (reply.status, reply.error["param"]) == (400, "response_id")
    assert "close the connection" in reply.error["message"]
    assert not service.closed.is_set()
    exchange.leave()
    await exchange.finished()
    gc.collect()
    assert (await ask(app, "POST", f"{URL}/resp_0001/cancel")).status == 404


async def test_a_finished_response_is_not_streamed_again(app: FastAPI) -> None:
    id = (await created(app))["id"]

    reply = await get(app, f"{id}?stream=true")

    assert (reply.status, reply.error["param"]) == (400, "stream")


async def test_the_input_of_a_response_is_listed_with_all_before_it(app: FastAPI) -> None:
    first = await created(app, input=[{"role": "user", "content": "one"}])
    second = await created(app, input="two", previous_response_id=first["id"])

    listed = (await get(app, f"{second['id']}/input_items?order=asc")).json

    ResponseItemList.model_validate(listed)
    assert [item["content"][0]["text"] for item in listed["data"]] == ["one", "Hello", "two"]
    assert (listed["first_id"], listed["last_id"]) == ("msg_0001_in0", "msg_0002_in0")
    assert listed["has_more"] is False


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_the_input_is_listed_page_by_page(app: FastAPI, order: str) -> None:
    texts = [f"t{number}" for number in range(5)]
    items = [{"role": "user", "content": text} for text in texts]
    path = f"{(await created(app, input=items))['id']}/input_items?limit=2&order={order}"

    seen: list[str] = []
    after, more = "", True
    while more:
        page = (await get(app, f"{path}{after and f'&after={after}'}")).json
        seen += [item["content"][0]["text"] for item in page["data"]]
        after, more = page["last_id"], page["has_more"]

    assert seen == (texts if order == "asc" else texts[::-1])


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=x", "after")],
)
async def test_a_wrong_page_names_its_parameter(app: FastAPI, query: str, param: str) -> None:
    id = (await created(app))["id"]

    reply = await get(app, f"{id}/input_items?{query}")

    assert (reply.status, reply.error["param"]) == (400, param)


async def test_many_at_once_are_all_kept(app: FastAPI) -> None:
    responses = await asyncio.gather(*(created(app, input=f"{number}") for number in range(20)))

    found = await asyncio.gather(*(get(app, response["id"]) for response in responses))
    assert [reply.json for reply in found] == list(responses)
