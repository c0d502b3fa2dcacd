"""Conversations are compacted at the app: by the endpoint, and by a trigger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from bridge.core.answers import SqliteResponseStore
from bridge.core.contract.errors import UnavailableError
from bridge.core.contract.events import Finished, FinishReason, TextDelta
from bridge.http_server.openai.responses.compaction.summaries import SUMMARISE, packed, summary_of
from tests.support.fakes import HELLO, STARTED, STOP, USAGE, FakeService, script_of
from tests.support.harness import assistant, user
from tests.support.http.asgi import Exchange, ask, build
from tests.support.http.response_events import check_response, check_stream

URL = "/v1/responses"
SUMMARY = (STARTED, TextDelta(" We talked "), TextDelta("of rivers.\n"), STOP)
CUT = (*SUMMARY[:-1], Finished(FinishReason.LENGTH, USAGE))
TRIGGER = {"type": "compaction_trigger"}
HI = {"role": "user", "content": "hi"}
BACK = {"role": "assistant", "content": "Hello."}
ITEM = {"type": "compaction", "encrypted_content": packed("We talked of rivers.")}
SAID = summary_of(ITEM["encrypted_content"], "")


@pytest.fixture
def service() -> FakeService:
    return FakeService(*SUMMARY)


@pytest.fixture
async def app(service: FakeService, tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with aclosing(SqliteResponseStore(tmp_path / "responses.sqlite3")) as store:
        yield build(service, store=store)


async def compact(app: FastAPI, **body: Any) -> Exchange:
    return await ask(app, "POST", f"{URL}/compact", {"model": "opus", **body})


async def respond(app: FastAPI, **body: Any) -> Exchange:
    return await ask(app, "POST", URL, {"model": "opus", **body})


async def test_the_endpoint_answers_with_the_callers_messages_and_one_item(
    app: FastAPI, service: FakeService
) -> None:
    reply = await compact(app, input=[HI, BACK], instructions="Help.")

    assert reply.status == 200
    message, item = reply.json["output"]
    assert (message["role"], message["content"][0]["text"]) == ("user", "hi")
    assert item == {**ITEM, "id": "cmp_0001_0"}
    assert reply.json["object"] == "response.compaction"
    assert reply.json["id"] == "resp_0001"
    assert reply.json["usage"]["total_tokens"] == USAGE.total_tokens
    (asked,) = service.requests
    assert asked.system == "Help."
    assert asked.messages == (user("hi"), assistant("Hello."), user(SUMMARISE))
    assert (await ask(app, "GET", f"{URL}/resp_0001")).status == 404


async def test_what_has_no_effect_on_the_endpoint_is_named(app: FastAPI) -> None:
    reply = await compact(app, input=[HI], stream=True, store=True)
    assert reply.status == 200
    assert reply.headers["x-bridge-ignored-params"] == "stream,store"
    assert "x-bridge-ignored-params" not in (await compact(app, input=[HI], store=False)).headers


async def test_what_comes_of_it_is_the_next_input(app: FastAPI, service: FakeService) -> None:
    output = (await compact(app, input=[HI, BACK])).json["output"]

    await respond(app, input=[*output, {"role": "user", "content": "more"}])

    assert service.requests[-1].messages == (user("hi", SAID, "more"),)


async def test_a_compacted_conversation_is_compacted_again(
    app: FastAPI, service: FakeService
) -> None:
    reply = await compact(app, input=[HI, ITEM, BACK])

    assert [item["type"] for item in reply.json["output"]] == ["message", "compaction"]
    assert service.requests[-1].messages == (
        user("hi", SAID),
        assistant("Hello."),
        user(SUMMARISE),
    )


async def test_a_stored_conversation_is_compacted_by_its_id(
    app: FastAPI, service: FakeService
) -> None:
    service.script = script_of(*HELLO)
    first = (await respond(app, input="one")).json["id"]
    service.script = script_of(*SUMMARY)

    alone = await compact(app, previous_response_id=first)
    more = await compact(app, previous_response_id=first, input="two")

    assert [len(reply.json["output"]) for reply in (alone, more)] == [2, 3]
    assert service.requests[1].messages == (user("one"), assistant("Hello"), user(SUMMARISE))
    assert service.requests[2].messages[-1] == user("two", SUMMARISE)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_trigger_is_answered_with_one_item(
    app: FastAPI, service: FakeService, stream: bool
) -> None:
    reply = await respond(app, input=[HI, BACK, TRIGGER], stream=stream)

    assert reply.status == 200
    response = check_stream(reply.body).last if stream else check_response(reply.json)
    assert response["status"] == "completed"
    assert response["output"] == [{**ITEM, "id": "cmp_0001_0"}]
    assert service.requests[-1].messages[-1] == user(SUMMARISE)


async def test_a_stream_says_that_it_compacts_and_tells_no_text(app: FastAPI) -> None:
    reply = await respond(app, input=[HI, TRIGGER], stream=True)

    assert check_stream(reply.body).types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.compaction.compacting",
        "response.output_item.done",
        "response.completed",
    ]
    assert b"rivers" not in reply.body


async def test_what_follows_a_trigger_begins_with_its_summary(
    app: FastAPI, service: FakeService
) -> None:
    first = (await respond(app, input=[HI])).json["id"]
    second = (await respond(app, input=[TRIGGER], previous_response_id=first)).json["id"]

    await respond(app, input="more", previous_response_id=second)

    assert service.requests[-1].messages == (user("hi", SAID, "more"),)
    listed = await ask(app, "GET", f"{URL}/{second}/input_items?limit=1")
    assert listed.json["data"][0]["type"] == "compaction_trigger"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_summary_that_was_cut_is_none(
    app: FastAPI, service: FakeService, stream: bool
) -> None:
    service.script = script_of(*CUT)

    reply = await respond(app, input=[HI, TRIGGER], stream=stream)
    endpoint = await compact(app, input="hi")

    response = check_stream(reply.body).last if stream else reply.json
    assert (response["status"], response["output"]) == ("incomplete", [])
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (endpoint.status, endpoint.headers["x-should-retry"]) == (503, "false")
    assert "incomplete" in endpoint.error["message"]


@pytest.mark.parametrize("text", ["", " \n"])
async def test_no_summary_is_an_error(app: FastAPI, service: FakeService, text: str) -> None:
    service.script = script_of(STARTED, TextDelta(text), STOP)

    whole = await respond(app, input=[HI, TRIGGER])
    streamed = await respond(app, input=[HI, TRIGGER], stream=True)

    assert (whole.status, whole.error["message"]) == (
        503,
        "The model wrote no summary. Retry the request.",
    )
    assert check_stream(streamed.body).last["status"] == "failed"


async def test_a_summary_that_breaks_off_is_none(app: FastAPI, service: FakeService) -> None:
    service.script = script_of(*SUMMARY[:-1], UnavailableError("It broke."))

    checked = check_stream((await respond(app, input=[HI, TRIGGER], stream=True)).body)

    assert checked.types[-2:] == ["error", "response.failed"]
    assert checked.last["output"] == []
