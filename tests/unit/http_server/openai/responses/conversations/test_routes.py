"""Conversations at the app: kept, changed, built on, and gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openai.types.conversations import Conversation, ConversationDeletedResource

from bridge.core.access.authentication import Access
from bridge.core.access.keys import parse_given
from bridge.core.answers import SqliteResponseStore
from bridge.core.contract.errors import UnavailableError
from bridge.core.contract.events import Finished, FinishReason, ToolCallDelta, ToolCallStart
from bridge.core.contract.request import TextPart, ToolCallPart, ToolResultPart
from bridge.http_server import HttpSettings
from tests.support.fakes import HELLO, STARTED, USAGE, FakeService, script_of
from tests.support.harness import assistant, user
from tests.support.http.asgi import Exchange, ask, build
from tests.support.http.response_events import check_stream

URL = "/v1/conversations"
HI = {"role": "user", "content": "hi"}
CALLING = (
    STARTED,
    ToolCallStart(0, "toolu_1", "look"),
    ToolCallDelta(0, "{}"),
    Finished(FinishReason.TOOL_CALLS, USAGE),
)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteResponseStore]:
    async with aclosing(SqliteResponseStore(tmp_path / "responses.sqlite3")) as store:
        yield store


@pytest.fixture
def app(service: FakeService, store: SqliteResponseStore) -> FastAPI:
    return build(service, store=store)


async def created(
    app: FastAPI, headers: Mapping[str, str] | None = None, **body: Any
) -> dict[str, Any]:
    reply = await ask(app, "POST", URL, body, headers)
    assert reply.status == 200, reply.body
    Conversation.model_validate(reply.json)
    return reply.json


async def respond(app: FastAPI, **body: Any) -> Exchange:
    return await ask(app, "POST", "/v1/responses", {"model": "opus", "input": "hi", **body})


async def listed(app: FastAPI, id: str) -> list[dict[str, Any]]:
    reply = await ask(app, "GET", f"{URL}/{id}/items?order=asc&limit=100")
    assert reply.status == 200, reply.body
    items: list[dict[str, Any]] = reply.json["data"]
    return items


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for item in items for part in item.get("content", ())]


async def test_a_conversation_is_created_changed_and_deleted(app: FastAPI) -> None:
    made = await created(app, metadata={"topic": "rivers"}, items=[HI])
    path = f"{URL}/{made['id']}"

    assert made["id"].startswith("conv_")
    assert (made["object"], made["created_at"]) == ("conversation", 1_700_000_000)
    assert (await ask(app, "GET", path)).json == made
    updated = await ask(app, "POST", path, {"metadata": {"topic": "lakes"}})
    assert updated.json == {**made, "metadata": {"topic": "lakes"}}
    assert (await ask(app, "POST", path, {"metadata": None})).json["metadata"] == {}
    deleted = await ask(app, "DELETE", path)
    ConversationDeletedResource.model_validate(deleted.json)
    assert deleted.json == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    for method, where, body in (
        ("GET", path, None),
        ("DELETE", path, None),
        ("POST", path, {"metadata": {}}),
        ("GET", f"{path}/items", None),
        ("POST", f"{path}/items", {"items": [HI]}),
        ("GET", f"{path}/items/msg_1", None),
        ("DELETE", f"{path}/items/msg_1", None),
    ):
        reply = await ask(app, method, where, body)
        assert (reply.status, reply.error["code"]) == (404, "conversation_not_found"), where


async def test_items_are_added_listed_read_and_deleted(app: FastAPI) -> None:
    id = (await created(app, items=[HI]))["id"]
    path = f"{URL}/{id}/items"
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}

    added = (await ask(app, "POST", path, {"items": [call, HI]})).json

    assert [item["type"] for item in added["data"]] == ["function_call", "message"]
    assert (added["object"], added["has_more"]) == ("list", False)
    items = await listed(app, id)
    assert items[1:] == added["data"]
    newest = (await ask(app, "GET", f"{path}?limit=2")).json
    assert newest["data"] == items[:0:-1]
    assert newest["has_more"]
    rest = (await ask(app, "GET", f"{path}?limit=2&after={newest['last_id']}")).json
    assert rest["data"] == items[:1]
    one = f"{path}/{items[1]['id']}"
    assert (await ask(app, "GET", one)).json == items[1]
    assert (await ask(app, "DELETE", one)).json["id"] == id
    missing = await ask(app, "GET", one)
    assert (missing.status, missing.error["code"]) == (404, "item_not_found")
    assert (await ask(app, "DELETE", one)).status == 404
    assert await listed(app, id) == [items[0], items[2]]


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([{"type": "made_up"}], "items[0].type"),
        ([HI, {"type": "compaction_trigger"}], "items[1]"),
        ([{"type": "compaction", "encrypted_content": "x"}], "items[0].encrypted_content"),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}],
            "items[0].content[0].image_url",
        ),
        ([HI] * 21, "items"),
        ("hi", "items"),
        (None, "items"),
    ],
)
async def test_what_cannot_be_built_on_is_not_kept(app: FastAPI, items: Any, param: str) -> None:
    id = (await created(app))["id"]

    reply = await ask(app, "POST", f"{URL}/{id}/items", {"items": items})

    assert (reply.status, reply.error["param"]) == (400, param)
    assert await listed(app, id) == []


async def test_a_stored_item_can_be_referenced(app: FastAPI) -> None:
    output = (await respond(app)).json["output"]
    reference = {"type": "item_reference", "id": output[0]["id"]}

    id = (await created(app, items=[reference]))["id"]

    assert texts(await listed(app, id)) == ["Hello"]
    unknown = await ask(app, "POST", URL, {"items": [{"type": "item_reference", "id": "msg_0_1"}]})
    assert (unknown.status, unknown.error["param"]) == (404, "items")


async def test_what_has_no_effect_is_named_or_an_error(app: FastAPI) -> None:
    reply = await ask(app, "POST", URL, {"made_up": 1})
    strict = await ask(app, "POST", URL, {"made_up": 1}, {"x-bridge-strict": "true"})

    assert (reply.status, reply.headers["x-bridge-ignored-params"]) == (200, "made_up")
    assert (strict.status, strict.error["param"]) == (400, "made_up")


async def test_a_server_that_keeps_nothing_says_so(service: FakeService) -> None:
    app = build(service)
    refused = await ask(app, "POST", URL, {})
    unknown = await respond(app, conversation="conv_1")

    assert (refused.status, refused.error["code"]) == (400, "unsupported_value")
    assert "BRIDGE_RESPONSES_DAYS" in refused.error["message"]
    assert (unknown.status, unknown.error["param"]) == (404, "conversation")


async def test_a_key_has_its_own_conversations_only(
    service: FakeService, store: SqliteResponseStore
) -> None:
    secrets = ("alice-secret-long-enough", "bob-secret-long-enough")
    app = build(
        service,
        store=store,
        access=Access(parse_given(f"alice={secrets[0]},bob={secrets[1]}")),
    )
    alice, bob = ({"authorization": f"Bearer {secret}"} for secret in secrets)
    id = (await created(app, alice, items=[HI]))["id"]

    for method, path, body in (
        ("GET", f"{URL}/{id}", None),
        ("GET", f"{URL}/{id}/items", None),
        ("POST", f"{URL}/{id}", {"metadata": {}}),
        ("POST", f"{URL}/{id}/items", {"items": [HI]}),
        ("DELETE", f"{URL}/{id}", None),
        ("POST", "/v1/responses", {"input": "hi", "conversation": id}),
        ("POST", "/v1/responses/compact", {"conversation": id}),
        ("POST", "/v1/responses/input_tokens", {"conversation": id}),
    ):
        reply = await ask(app, method, path, body, bob)
        assert (reply.status, reply.error["code"]) == (404, "conversation_not_found"), path
    assert (await ask(app, "GET", f"{URL}/{id}", headers=alice)).status == 200


# Responses in a conversation


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_builds_on_its_conversation_and_is_added_to_it(
    app: FastAPI, service: FakeService, stream: bool
) -> None:
    id = (await created(app, items=[{"role": "user", "content": "one"}]))["id"]

    for form in (id, {"id": id}):
        reply = await respond(app, input="two", conversation=form, stream=stream)
        response = check_stream(reply.body).last if stream else reply.json
        assert response["conversation"] == {"id": id}
        kept = await ask(app, "GET", f"/v1/responses/{response['id']}")
        assert kept.json["conversation"] == {"id": id}

    assert service.requests[-1].messages == (
        user("one", "two"),
        assistant("Hello"),
        user("two"),
    )
    assert texts(await listed(app, id)) == ["one", "two", "Hello", "two", "Hello"]


async def test_calls_and_their_outputs_go_through_a_conversation(
    app: FastAPI, service: FakeService
) -> None:
    id = (await created(app))["id"]
    service.script = script_of(*CALLING)
    await respond(app, conversation=id)
    service.script = script_of(*HELLO)
    output = {"type": "function_call_output", "call_id": "toolu_1", "output": "seen"}

    unanswered = await respond(app, conversation=id)
    answered = await respond(app, input=[output], conversation=id)
    again = await respond(app, input=[output], conversation=id)

    assert (unanswered.status, unanswered.error["param"]) == (400, "input")
    assert answered.status == 200
    assert service.requests[-1].messages[1:3] == (
        assistant(ToolCallPart("toolu_1", "look", "{}")),
        user(ToolResultPart("toolu_1", (TextPart("seen"),))),
    )
    assert again.status == 400


async def test_nothing_of_an_answer_that_failed_is_added(
    app: FastAPI, service: FakeService
) -> None:
    id = (await created(app, items=[HI]))["id"]
    service.script = script_of(*HELLO[:-1], UnavailableError("It broke."))

    assert (await respond(app, conversation=id)).status == 503
    assert check_stream((await respond(app, conversation=id, stream=True)).body).last["error"]

    assert texts(await listed(app, id)) == ["hi"]


async def test_a_response_that_is_not_kept_is_added_all_the_same(app: FastAPI) -> None:
    id = (await created(app))["id"]

    response = (await respond(app, conversation=id, store=False)).json

    assert (response["store"], response["conversation"]) == (False, {"id": id})
    assert (await ask(app, "GET", f"/v1/responses/{response['id']}")).status == 404
    assert texts(await listed(app, id)) == ["hi", "Hello"]


async def test_a_conversation_that_is_gone_meanwhile_is_not_named_in_the_reply(
    app: FastAPI, service: FakeService, store: SqliteResponseStore
) -> None:
    id = (await created(app))["id"]

    async def deleting(request: object) -> Any:
        assert await store.conversations.delete("", id)
        for event in HELLO:
            yield event

    service.script = deleting
    reply = await respond(app, conversation=id)

    assert (reply.status, reply.json["conversation"]) == (200, None)


async def test_a_conversation_and_a_response_before_exclude_one_another(app: FastAPI) -> None:
    id = (await created(app))["id"]
    before = (await respond(app)).json["id"]

    reply = await respond(app, conversation=id, previous_response_id=before)

    assert (reply.status, reply.error["param"]) == (400, "conversation")


async def test_a_response_of_a_conversation_is_continued_by_that(app: FastAPI) -> None:
    id = (await created(app))["id"]
    response = (await respond(app, conversation=id)).json["id"]

    reply = await respond(app, previous_response_id=response)

    assert (reply.status, reply.error["param"]) == (400, "previous_response_id")
    assert id in reply.error["message"]


async def test_a_conversation_alone_is_counted_and_compacted(
    app: FastAPI, service: FakeService
) -> None:
    id = (await created(app, items=[HI]))["id"]

    counted = await ask(app, "POST", "/v1/responses/input_tokens", {"conversation": id})
    compacted = await ask(app, "POST", "/v1/responses/compact", {"conversation": id})

    assert (counted.status, compacted.status) == (200, 200)
    assert service.requests[0].messages == (user("hi"),)
    assert [item["type"] for item in compacted.json["output"]] == ["message", "compaction"]
    assert texts(await listed(app, id)) == ["hi"]


async def test_a_conversation_larger_than_a_body_is_an_error(
    service: FakeService, store: SqliteResponseStore
) -> None:
    app = build(service, HttpSettings(max_body_bytes=1_000), store=store)
    id = (await created(app))["id"]
    for _ in range(3):
        await ask(app, "POST", f"{URL}/{id}/items", {"items": [{**HI, "content": "x" * 500}]})

    reply = await respond(app, conversation=id)

    assert (reply.status, reply.error["param"]) == (413, "conversation")
