"""The app as a whole: URLs, headers, bodies and replies, message by message."""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from bridge.core.access.authentication import Access
from bridge.core.access.keys import parse_given
from bridge.core.contract.errors import DeadlineError, QueueFullError, UnavailableError
from bridge.core.contract.events import Started, TextDelta
from bridge.core.contract.states import Health, HealthStatus
from bridge.http_server import HttpSettings
from bridge.http_server.body.reading import parse_json
from tests.support.fakes import HELLO, STARTED, STOP, FakeService, Gate
from tests.support.http.asgi import Exchange, ask, build, chat, frames

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}], "model": "opus"}


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def app(service: FakeService) -> FastAPI:
    return build(service)


# Replies


async def test_a_chat_is_answered_whole(app: FastAPI, service: FakeService) -> None:
    reply = await chat(app)

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["id"] == "chatcmpl-0002"
    assert reply.json["created"] == 1_700_000_000
    assert reply.json["choices"][0]["message"]["content"] == "Hello"
    assert service.closed.is_set()
    assert service.requests[0].request_id == "req_0001"
    assert service.requests[0].api == "http"


async def test_a_chat_is_answered_as_a_stream(app: FastAPI, service: FakeService) -> None:
    reply = await chat(app, stream=True)

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert frames(reply.body)[-1] == "data: [DONE]"
    assert reply.complete
    assert service.closed.is_set()


async def test_events_that_come_one_by_one_are_written_one_by_one() -> None:
    gates = [Gate() for _ in HELLO]
    app = build(FakeService(*(step for pair in zip(gates, HELLO, strict=True) for step in pair)))
    asking = asyncio.create_task(chat(app, stream=True))
    for gate in gates:
        await gate.reached.wait()
        # What came before is written by now, or in the next steps of the loop.
        for _ in range(10):
            await asyncio.sleep(0)
        gate.opened.set()

    written = [len(frames(message["body"])) for message in (await asking).messages[1:-1]]
    assert written == [1, 1, 1, 2]


async def test_a_burst_of_events_is_one_write_of_as_many_frames(app: FastAPI) -> None:
    reply = await chat(app, stream=True)

    written = [len(frames(message["body"])) for message in reply.messages[1:-1]]
    assert written == [5]


async def test_a_text_completion_is_answered(app: FastAPI) -> None:
    whole = await ask(app, "POST", "/v1/completions", {"prompt": "hi"})
    streamed = await ask(app, "POST", "/v1/completions", {"prompt": "hi", "stream": True})

    assert whole.json["id"] == "cmpl-0002"
    assert whole.json["choices"][0]["text"] == "Hello"
    assert [c["choices"][0]["text"] for c in frames(streamed.body)[:-1]] == ["", "Hel", "lo", ""]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_ignored_is_named_in_a_header(stream: bool) -> None:
    service = FakeService(Started("m", ("seed", "model")), STOP)

    unknown: dict[str, Any] = {"to\r\np k": 2, "é": 3}
    reply = await chat(build(service), stream=stream, seed=1, **unknown)

    assert reply.headers["x-bridge-ignored-params"] == "seed,to__p_k,_,model"


@pytest.mark.parametrize("stream", [False, True])
async def test_at_most_twenty_ignored_names_are_reported(app: FastAPI, stream: bool) -> None:
    unknown: dict[str, Any] = {f"p{i:03}{'x' * 99}": 1 for i in range(30)}

    reply = await chat(app, stream=stream, **unknown)

    names = reply.headers["x-bridge-ignored-params"].split(",")
    assert len(names) == 20
    assert all(len(name) <= 64 for name in names)


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_ignored_means_no_header(app: FastAPI, stream: bool) -> None:
    reply = await chat(app, stream=stream)

    assert "x-bridge-ignored-params" not in reply.headers


# The bridge's own headers


async def test_strict_mode_by_header(app: FastAPI, service: FakeService) -> None:
    reply = await chat(app, {"x-bridge-strict": "true"}, seed=1)

    assert reply.status == 400
    assert (reply.error["param"], reply.error["code"]) == ("seed", "unsupported_parameter")
    assert service.requests == []


async def test_strict_mode_by_setting(service: FakeService) -> None:
    app = build(service, HttpSettings(strict=True))

    reply = await chat(app, {"x-bridge-strict": "false"}, seed=1)

    assert reply.error["code"] == "unsupported_parameter"


async def test_thinking_by_header(app: FastAPI, service: FakeService) -> None:
    await chat(app, {"x-bridge-include-reasoning": "1"})

    assert service.requests[0].include_thinking


async def test_a_timeout_by_header(app: FastAPI, service: FakeService) -> None:
    await chat(app, {"x-bridge-timeout": "2.5"})

    assert service.requests[0].timeout == 2.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-bridge-timeout", "0"),
        ("x-bridge-timeout", "-1"),
        ("x-bridge-timeout", "soon"),
        ("x-bridge-timeout", "inf"),
        ("x-bridge-timeout", "nan"),
        ("x-bridge-timeout", ""),
        ("x-bridge-strict", "maybe"),
        ("x-bridge-include-reasoning", "maybe"),
    ],
)
async def test_a_header_that_makes_no_sense_is_named(app: FastAPI, name: str, value: str) -> None:
    reply = await chat(app, {name: value})

    assert reply.status == 400
    assert reply.error["param"] == name


# Headers of every reply


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", CHAT, BODY),
        ("POST", CHAT, {**BODY, "stream": True}),
        ("POST", CHAT, {}),
        ("GET", CHAT, None),
        ("GET", "/nowhere", None),
        ("GET", "/v1/models", None),
        ("GET", "/health", None),
    ],
)
async def test_every_reply_has_its_headers(
    app: FastAPI, method: str, path: str, body: object
) -> None:
    reply = await ask(app, method, path, body, {"x-request-id": "mine"})

    assert reply.headers["x-request-id"] == "req_0001"
    assert reply.headers["openai-version"] == "2020-10-01"
    assert reply.headers["openai-processing-ms"] == "250"


async def test_request_ids_differ(app: FastAPI) -> None:
    ids = {(await ask(app, "GET", "/health")).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


# Bodies


@pytest.mark.parametrize(
    "chunks",
    [[b""], [b"{"], [b"hi"], [b'{"a": NaN}'], [b'{"a": 1e999}'], [b"\xff{}"]],
)
async def test_a_body_that_is_no_json(app: FastAPI, chunks: list[bytes]) -> None:
    reply = await ask(app, "POST", CHAT, chunks=chunks)

    assert reply.status == 400
    assert (reply.error["param"], reply.error["code"]) == (None, "invalid_json")


async def test_invalid_json_is_pointed_at(app: FastAPI) -> None:
    reply = await ask(app, "POST", CHAT, chunks=[b'{"messages": [],\n "model" "opus"}'])

    assert "line 2, column 10" in reply.error["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", b"--x--"),
        ("application/x-www-form-urlencoded", b"model=opus"),
    ],
)
async def test_a_form_is_refused_with_what_to_send(app: FastAPI, kind: str, body: bytes) -> None:
    headers = {"content-type": kind}
    reply = await ask(app, "POST", CHAT, chunks=[body], headers=headers)
    as_curl_does = await ask(app, "POST", CHAT, chunks=[json.dumps(BODY).encode()], headers=headers)

    assert as_curl_does.status == 200

    assert reply.status == 415
    assert "Content-Type: application/json" in reply.error["message"]


def _deflated(data: bytes, window: int) -> bytes:
    packer = zlib.compressobj(wbits=window)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "window"), [("gzip", 31), ("x-gzip", 31), ("deflate", 15), ("Deflate", -15)]
)
async def test_a_compressed_body_is_unpacked(app: FastAPI, encoding: str, window: int) -> None:
    packed = _deflated(json.dumps(BODY).encode(), window)
    headers = {"content-encoding": encoding}

    whole = await ask(app, "POST", CHAT, chunks=[packed], headers=headers)
    cut = await ask(app, "POST", CHAT, chunks=[packed[:-6]], headers=headers)
    plain = await ask(app, "POST", CHAT, chunks=[json.dumps(BODY).encode()], headers=headers)

    assert whole.status == 200
    for wrong in (cut, plain):
        assert (wrong.status, wrong.error["code"]) == (400, "invalid_content_encoding")


async def test_gzip_may_come_in_several_members_and_deflate_may_not(app: FastAPI) -> None:
    body = json.dumps(BODY).encode()
    halves = body[:20], body[20:]

    gzip, deflate = [
        await ask(
            app,
            "POST",
            CHAT,
            chunks=[_deflated(half, window) for half in halves],
            headers={"content-encoding": name},
        )
        for name, window in (("gzip", 31), ("deflate", 15))
    ]

    assert gzip.status == 200
    assert (deflate.status, deflate.error["code"]) == (400, "invalid_content_encoding")


@pytest.mark.parametrize("members", [1, 5])
async def test_a_body_that_unpacks_too_large(service: FakeService, members: int) -> None:
    app = build(service, HttpSettings(max_body_bytes=5000))
    packed = _deflated(b" " * (20_000 // members), 31) * members
    assert len(packed) < 5000

    reply = await ask(app, "POST", CHAT, chunks=[packed], headers={"content-encoding": "gzip"})

    assert reply.status == 413
    assert "5000 bytes" in reply.error["message"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
async def test_an_encoding_that_is_not_supported_is_named(app: FastAPI, encoding: str) -> None:
    headers = {"content-encoding": encoding}
    reply = await ask(app, "POST", CHAT, chunks=[b"x"], headers=headers)

    assert (reply.status, reply.error["code"]) == (415, "unsupported_content_encoding")
    assert repr(encoding) in reply.error["message"]
    assert "gzip, deflate" in reply.error["message"]


async def test_encodings_in_headers_of_their_own_are_all_seen(app: FastAPI) -> None:
    twice = {"content-encoding": "gzip", "Content-Encoding": "br"}
    reply = await ask(app, "POST", CHAT, chunks=[b"x"], headers=twice)

    assert (reply.status, reply.error["code"]) == (415, "unsupported_content_encoding")
    assert "'gzip, br'" in reply.error["message"]


async def test_a_body_in_pieces_is_read(app: FastAPI) -> None:
    whole = json.dumps(BODY).encode()

    reply = await ask(app, "POST", CHAT, chunks=[whole[:5], b"", whole[5:]])

    assert reply.status == 200


@pytest.mark.parametrize("headers", [{"content-length": "1000"}, {}, {"content-length": "1"}])
async def test_a_body_that_is_too_large(service: FakeService, headers: dict[str, str]) -> None:
    app = build(service, HttpSettings(max_body_bytes=100))

    reply = await ask(app, "POST", CHAT, headers=headers, chunks=[b" " * 60, b" " * 60])

    assert reply.status == 413
    assert reply.error["code"] == "request_too_large"


async def test_a_body_that_is_announced_too_large_is_not_read(service: FakeService) -> None:
    app = build(service, HttpSettings(max_body_bytes=100))

    reply = await ask(app, "POST", CHAT, headers={"content-length": "101"}, chunks=[b"{}"])

    assert (reply.status, reply.unread) == (413, 1)


async def test_a_client_that_leaves_inside_its_body(app: FastAPI, service: FakeService) -> None:
    exchange = Exchange(app, "POST", CHAT, chunks=[])
    exchange.leave()

    assert (await exchange.finished()).status == 499
    assert service.requests == []


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": "\\ud83d"}', {"a": "\ufffd"}),
        (b'["\\uDE42x", {"\\ud83d": 1}]', ["\ufffdx", {"\ufffd": 1}]),
        (b'["\\ud83d\\ude42"]', ["🙂"]),
        (b'["\\\\ud83d"]', ["\\ud83d"]),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    ],
)
def test_half_a_character_is_replaced(body: bytes, value: object) -> None:
    assert parse_json(body) == value


# Models, health, and what is not there


async def test_models(app: FastAPI) -> None:
    reply = await ask(app, "GET", "/v1/models")

    created = 1_700_000_000
    assert reply.json == {
        "object": "list",
        "data": [
            {"id": id, "object": "model", "created": created, "owned_by": "anthropic"}
            for id in ("opus", "anthropic/claude-opus-5")
        ],
    }


@pytest.mark.parametrize("id", ["opus", "anthropic/claude-opus-5"])
async def test_a_model(app: FastAPI, id: str) -> None:
    assert (await ask(app, "GET", f"/v1/models/{id}")).json["id"] == id


@pytest.mark.parametrize("id", ["gpt", "a/b/c"])
async def test_an_unknown_model(app: FastAPI, id: str) -> None:
    reply = await ask(app, "GET", f"/v1/models/{id}")

    assert reply.status == 404
    assert (reply.error["param"], reply.error["code"]) == ("model", "model_not_found")


async def test_health(service: FakeService) -> None:
    reply = await ask(build(service, HttpSettings(replica="bridge-7")), "GET", "/health")

    assert reply.status == 200
    assert reply.json == {
        "status": "ok",
        "replica": "bridge-7",
        "version": "1.2.3",
        "cli_version": "2.1.0",
        "logged_in": True,
        "account": "subscription",
        "simulated": False,
        "detail": "",
        "resets_at": None,
        "lacking": ["setting the effort of a process that runs"],
        "pool": {"size": 3, "processes": {"running": 1, "parked": 2}, "waiting": 1},
        "plan": None,
    }


@pytest.mark.parametrize("status", [s for s in HealthStatus if s is not HealthStatus.OK])
async def test_health_when_nothing_can_be_served(status: HealthStatus) -> None:
    service = FakeService(health=Health(status, False, "none", "2.1.0", resets_at=5.0))
    app = build(service, access=Access(parse_given("mine=a-secret-long-enough")))

    reply = await ask(app, "GET", "/health")
    assert (reply.status, reply.json["status"], reply.json["resets_at"]) == (503, status, 5.0)
    # Neither needs a key.
    ready = await ask(app, "GET", "/readyz")
    assert (ready.status, ready.json) == (503, {"status": status, "resets_at": 5.0})
    live = await ask(app, "GET", "/livez")
    assert (live.status, live.json) == (200, {"status": "ok"})


async def test_a_server_that_serves_is_ready(app: FastAPI) -> None:
    reply = await ask(app, "GET", "/readyz")

    assert (reply.status, reply.json) == (200, {"status": "ok", "resets_at": None})


@pytest.mark.parametrize(
    ("method", "path", "code", "said"),
    [
        ("POST", "/v2", "unknown_url", "Unknown request URL: POST /v2."),
        ("GET", "/v1", "unknown_url", "Unknown request URL"),
        ("POST", "/v1/files", "unknown_url", "Unknown request URL: POST /v1/files."),
        ("POST", "/v1/images/generations", "unknown_url", "Unknown request URL"),
        ("GET", "/docs", "unknown_url", "Unknown request URL"),
        ("POST", "/chat/completions", "unknown_url", "Did you mean /v1/chat/completions?"),
        ("POST", f"/v1{CHAT}", "unknown_url", "Did you mean /v1/chat/completions?"),
        ("POST", f"{CHAT}/", "unknown_url", "Did you mean /v1/chat/completions?"),
        ("POST", "/v1//chat/completions", "unknown_url", "Did you mean /v1/chat/completions?"),
        ("GET", "/v1/models/", "unknown_url", "Did you mean /v1/models?"),
        ("POST", "/v1/embeddings", "model_not_found", "no embedding model"),
        ("GET", "/embeddings", "model_not_found", "no embedding model"),
        ("GET", "/" + "x" * 5000, "unknown_url", "Unknown request URL"),
    ],
)
async def test_an_unknown_url(app: FastAPI, method: str, path: str, code: str, said: str) -> None:
    reply = await ask(app, method, path)

    assert reply.status == 404
    assert (reply.error["type"], reply.error["code"]) == ("invalid_request_error", code)
    assert said in reply.error["message"]
    assert len(reply.error["message"]) < 400


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("GET", "/v1/responses/input_tokens", "POST"),
        ("DELETE", "/v1/responses/input_tokens", "POST"),
        ("GET", "/v1/responses/compact", "POST"),
        ("DELETE", "/v1/responses/compact", "POST"),
        ("DELETE", "/v1/models/opus", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("OPTIONS", CHAT, "POST"),
    ],
)
async def test_a_wrong_method(app: FastAPI, method: str, path: str, allowed: str) -> None:
    reply = await ask(app, method, path)

    assert reply.status == 405
    assert reply.headers["allow"] == allowed
    assert reply.error["code"] == "method_not_supported"


async def test_the_frameworks_own_validation_has_the_envelope(app: FastAPI) -> None:
    @app.get("/typed")
    async def typed(limit: int) -> int:
        return limit

    reply = await ask(app, "GET", "/typed")

    assert reply.status == 400
    assert reply.error["param"] == "limit"


async def test_other_errors_of_the_framework_have_the_envelope(app: FastAPI) -> None:
    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    reply = await ask(app, "GET", "/teapot")

    assert reply.status == 418
    assert reply.error["message"] == "short and stout"


# Errors


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_event_has_its_status(stream: bool) -> None:
    service = FakeService(QueueFullError("full", retry_after=3))

    reply = await chat(build(service), stream=stream)

    assert reply.status == 429
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["retry-after"] == "3"
    assert reply.error["code"] == "queue_full"
    assert service.closed.is_set()


async def test_an_error_in_the_middle_has_its_status_if_nothing_was_sent() -> None:
    service = FakeService(STARTED, TextDelta("a"), DeadlineError("late"))

    reply = await chat(build(service))

    assert (reply.status, reply.headers["x-should-retry"]) == (504, "false")


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnavailableError("gone"), "upstream_error"), (ValueError("secret"), "internal_error")],
)
async def test_an_error_in_the_middle_of_a_stream_ends_it(error: Exception, code: str) -> None:
    service = FakeService(STARTED, TextDelta("a"), error)

    reply = await chat(build(service), stream=True)

    *_, text, last = frames(reply.body)
    assert text["choices"][0]["delta"] == {"content": "a"}
    assert last["error"]["code"] == code
    assert "secret" not in last["error"]["message"]
    assert reply.complete
    assert service.closed.is_set()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_is_opaque_and_logged(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService(ValueError("secret"))

    with caplog.at_level(logging.ERROR):
        reply = await chat(build(service), stream=stream)

    assert reply.status == 500
    assert reply.error["code"] == "internal_error"
    assert "secret" not in reply.error["message"]
    assert "req_0001" in reply.error["message"]
    assert reply.headers["x-should-retry"] == "false"
    assert "req_0001" in caplog.text
    assert "ValueError" in caplog.text
    assert "in complete" in caplog.text
    assert "secret" not in caplog.text


async def test_an_answer_that_just_stops_is_an_error() -> None:
    reply = await chat(build(FakeService(*HELLO[:-1])))

    assert (reply.status, reply.error["code"]) == (503, "upstream_error")


async def test_a_stream_that_just_stops_ends_in_an_error() -> None:
    reply = await chat(build(FakeService(*HELLO[:-1])), stream=True)

    assert frames(reply.body)[-1]["error"]["code"] == "upstream_error"


async def test_an_error_after_the_end_changes_nothing() -> None:
    reply = await chat(build(FakeService(*HELLO, UnavailableError("late"))), stream=True)

    assert frames(reply.body)[-1] == "data: [DONE]"
    assert reply.complete


# The description


async def test_the_description_has_the_schemas_that_it_refers_to(app: FastAPI) -> None:
    reply = await ask(app, "GET", "/openapi.json")

    described = reply.json
    schemas = described["components"]["schemas"]
    referred = {part.split('"')[0] for part in reply.body.decode().split("#/components/schemas/")}
    assert {name for name in referred if name.isidentifier()} <= set(schemas)
    body = described["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ChatCompletionRequest"}
    assert schemas["ChatCompletionRequest"]["required"] == ["messages"]
