"""`POST /v1/responses/input_tokens` at the app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openai.types.responses import InputTokenCountResponse

from bridge.core.answers import SqliteResponseStore
from tests.support.fakes import COUNTED, FakeService
from tests.support.harness import assistant, user
from tests.support.http.asgi import Exchange, ask, build

URL = "/v1/responses/input_tokens"


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def app(service: FakeService, tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with aclosing(SqliteResponseStore(tmp_path / "responses.sqlite3")) as store:
        yield build(service, store=store)


async def count(app: FastAPI, headers: dict[str, str] | None = None, **body: Any) -> Exchange:
    return await ask(app, "POST", URL, body, headers)


async def test_a_count_has_the_form_of_openais(app: FastAPI, service: FakeService) -> None:
    reply = await count(app, model="opus", input="hi", instructions="Be brief.")

    assert reply.status == 200
    assert reply.json == {"object": "response.input_tokens", "input_tokens": COUNTED}
    assert InputTokenCountResponse.model_validate(reply.json).input_tokens == COUNTED
    (asked,) = service.requests
    assert (asked.system, asked.messages, asked.model) == ("Be brief.", (user("hi"),), "opus")
    assert asked.request_id == "req_0001"


async def test_what_a_response_builds_on_counts_alone_or_with_more(
    app: FastAPI, service: FakeService
) -> None:
    first = await ask(app, "POST", "/v1/responses", {"model": "opus", "input": "one"})
    previous = first.json["id"]

    assert (await count(app, previous_response_id=previous)).status == 200
    assert (await count(app, previous_response_id=previous, input="two")).status == 200

    alone, more = (request.messages for request in service.requests[-2:])
    assert alone == (user("one"), assistant("Hello"))
    assert more == (*alone, user("two"))


async def test_what_cannot_be_counted_names_its_field(app: FastAPI) -> None:
    empty = await count(app, model="opus")
    wrong = await count(app, input=[{"type": "made_up"}])
    strict = await count(app, {"x-bridge-strict": "true"}, input="hi", personality="friendly")
    missing = await count(app, previous_response_id="resp_never")

    assert (empty.status, empty.error["param"]) == (400, "input")
    assert (wrong.status, wrong.error["param"]) == (400, "input[0].type")
    assert (strict.status, strict.error["param"]) == (400, "personality")
    assert (missing.status, missing.error["code"]) == (404, "previous_response_not_found")


async def test_what_has_no_effect_is_named(app: FastAPI) -> None:
    reply = await count(app, input="hi", personality="friendly")

    assert reply.headers["x-bridge-ignored-params"] == "personality"
