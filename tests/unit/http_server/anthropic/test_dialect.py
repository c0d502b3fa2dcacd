"""What belongs to Anthropic's API besides its endpoints: keys, headers, who speaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message

from bridge.core.access.authentication import Access
from bridge.core.access.keys import parse_given
from bridge.core.contract.errors import QueueFullError
from bridge.core.contract.events import TextDelta
from bridge.http_server import HttpSettings
from tests.support.fakes import COUNTED, STARTED, FakeService
from tests.support.http.asgi import Exchange, ask, build

KEY = "user-secret-long-enough"
SPEAKS = {"anthropic-version": "2023-06-01"}
URL = "/v1/messages"
PAGE = "https://chat.example.com"


def asked(**more: Any) -> dict[str, Any]:
    body = {"model": "opus", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return {**body, **more}


def events(exchange: Exchange) -> list[dict[str, Any]]:
    blocks = exchange.body.decode().split("\n\n")
    assert blocks.pop() == ""
    return [json.loads(block.partition("\ndata: ")[2]) for block in blocks]


async def test_a_message_whole_and_streamed() -> None:
    service = FakeService()
    app = build(service)
    whole = await ask(app, "POST", f"{URL}?beta=true", asked(), {"anthropic-beta": "new-2026"})
    streamed = await ask(app, "POST", URL, asked(stream=True))

    message = Message.model_validate_json(whole.body)
    assert message.id.startswith("msg_")
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hello"}]
    assert [event["type"] for event in events(streamed)] == [
        *("message_start", "ping", "content_block_start"),
        *("content_block_delta", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert whole.headers["request-id"].startswith("req_")
    assert "x-bridge-ignored-params" not in whole.headers
    assert not {"x-request-id", "openai-version"} & whole.headers.keys()
    assert [request.whole for request in service.requests] == [True, False]


async def test_what_was_ignored_is_named_in_a_header() -> None:
    reply = await ask(build(FakeService()), "POST", URL, asked(fallbacks=[{}], seed=1))

    assert reply.headers["x-bridge-ignored-params"] == "fallbacks,seed"


async def test_strict_mode_by_header_and_by_setting() -> None:
    by_header = await ask(
        build(FakeService()), "POST", URL, asked(seed=5), {"x-bridge-strict": "true"}
    )
    by_setting = await ask(
        build(FakeService(), HttpSettings(strict=True)), "POST", URL, asked(seed=5)
    )

    for reply in (by_header, by_setting):
        assert reply.status == 400
        assert reply.json["error"]["details"]["field"] == "seed"


async def test_the_tokens_of_a_request_are_counted_without_a_limit_of_the_answer() -> None:
    service = FakeService()
    app = build(service)
    body = asked(seed=5)
    del body["max_tokens"]
    reply = await ask(app, "POST", f"{URL}/count_tokens", body)
    unlimited = await ask(app, "POST", URL, body)
    wrong = await ask(app, "POST", f"{URL}/count_tokens", asked(messages=[]))

    assert reply.json == {"input_tokens": COUNTED}
    assert reply.headers["x-bridge-ignored-params"] == "seed"
    assert unlimited.json["error"]["details"]["field"] == "max_tokens"
    assert wrong.json["error"]["details"]["field"] == "messages"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_answer_has_its_status(stream: bool) -> None:
    app = build(FakeService(QueueFullError("full", retry_after=3)))
    reply = await ask(app, "POST", URL, asked(stream=stream))

    assert (reply.status, reply.headers["retry-after"]) == (429, "3")
    assert reply.json["error"]["type"] == "rate_limit_error"
    assert reply.json["request_id"] == reply.headers["request-id"]


async def test_an_error_within_the_answer_ends_the_stream() -> None:
    app = build(FakeService(STARTED, TextDelta("a"), QueueFullError("full")))
    reply = await ask(app, "POST", URL, asked(stream=True))

    assert reply.status == 200
    assert [event["type"] for event in events(reply)][-2:] == ["content_block_stop", "error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": KEY}, 200),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"Bearer {KEY}", "x-api-key": KEY}, 200),
        ({"authorization": f"Bearer {KEY}", "x-api-key": "other"}, 401),
        ({"x-api-key": "other"}, 401),
    ],
)
async def test_a_key_comes_by_either_header(headers: dict[str, str], status: int) -> None:
    app = build(FakeService(), access=Access(parse_given(f"laptop={KEY}")))
    reply = await ask(app, "POST", URL, asked(), headers)

    assert reply.status == status
    if status == 401:
        assert reply.json["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/opus", "/v1/nothing"])
async def test_the_request_says_whose_url_it_is_where_both_have_it(path: str) -> None:
    app = build(FakeService())

    for headers in (SPEAKS, {"x-api-key": "a"}):
        assert "request-id" in (await ask(app, "GET", path, headers=headers)).headers
    for headers in ({}, {"authorization": "Bearer a"}):
        assert "x-request-id" in (await ask(app, "GET", path, headers=headers)).headers


async def test_claude_code_may_ask_without_a_key_whether_a_server_is_there() -> None:
    app = build(FakeService(), access=Access(parse_given(f"laptop={KEY}")))

    assert (await ask(app, "HEAD", "/api/hello")).status == 200
    assert (await ask(app, "GET", "/api/hello")).json == {"message": "hello"}
    assert (await ask(app, "GET", "/v1/models", headers=SPEAKS)).status == 401


async def test_models_are_listed_in_pages() -> None:
    app = build(FakeService())
    first = await ask(app, "GET", "/v1/models?limit=1", headers=SPEAKS)
    wrong = await ask(app, "GET", "/v1/models?limit=0", headers=SPEAKS)
    one = await ask(app, "GET", "/v1/models/anthropic/claude-opus-5", headers=SPEAKS)
    none = await ask(app, "GET", "/v1/models/x", headers=SPEAKS)
    nameless = await ask(app, "GET", "/v1/models/", headers=SPEAKS)

    assert [model["id"] for model in first.json["data"]] == ["opus"]
    assert first.json["has_more"]
    assert (wrong.status, wrong.json["error"]["details"]["field"]) == (400, "limit")
    assert one.json["id"] == "anthropic/claude-opus-5"
    for reply in (none, nameless):
        assert (reply.status, reply.json["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/messages/batches/b", "/v1/files"])
async def test_what_anthropic_has_and_this_server_has_not_is_said(path: str) -> None:
    reply = await ask(build(FakeService()), "GET", path, headers=SPEAKS)

    assert reply.status == 404
    assert "not supported" in reply.json["error"]["message"]


async def test_a_page_may_send_and_read_the_headers_of_the_client() -> None:
    app = build(FakeService(), HttpSettings(allowed_origins=(PAGE,)))
    wanted = "anthropic-dangerous-direct-browser-access, anthropic-version, x-api-key"
    headers = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": wanted,
    }
    preflight = await ask(app, "OPTIONS", URL, headers=headers)
    reply = await ask(app, "POST", URL, asked(), {"origin": PAGE})

    assert preflight.headers["access-control-allow-headers"] == wanted
    assert "request-id" in reply.headers["access-control-expose-headers"]
