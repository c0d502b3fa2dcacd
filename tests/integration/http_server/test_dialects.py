"""The seam between the server and its dialects, shown by a second one beside OpenAI's."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import FastAPI

from bridge.core.access.authentication import Access
from bridge.core.access.keys import parse_given
from bridge.core.contract import QueueFullError, TextDelta
from bridge.http_server import HttpSettings, all_dialects, create_app
from bridge.http_server.dialect import Dialect
from tests.support.fakes import STARTED, FakeService
from tests.support.harness import PATIENCE
from tests.support.http.asgi import Exchange, ask, frames
from tests.support.http.serving import serving
from tests.support.http.telegraph import Telegraph

USER, ADMIN = "user-secret-long-enough", "admin-secret-long-enough"
PAGE = "https://chat.example.com"
WIRES = "/v1/wires"
SPEAKS = {"wire-version": "1"}


def both() -> tuple[Dialect, ...]:
    """The dialects of a server that has one more."""
    return (*all_dialects(), Telegraph())


def app_with(
    service: FakeService | None = None,
    dialects: tuple[Dialect, ...] | None = None,
    *,
    keys: bool = False,
    **settings: Any,
) -> FastAPI:
    return create_app(
        service or FakeService(),
        dialects or both(),
        version="1",
        settings=HttpSettings(**settings),
        access=Access(parse_given(f"laptop={USER},op:admin={ADMIN}") if keys else ()),
        new_id=lambda: "0001",
    )


def is_wire(reply: Exchange) -> bool:
    """Whether all of a reply is the second dialect's; none of it may be of both."""
    named = {"wire-id": "req_0001"}.items() <= reply.headers.items()
    of_openai = {"x-request-id", "openai-version", "openai-processing-ms"} & reply.headers.keys()
    assert named is not bool(of_openai)
    return named


async def test_its_answers_whole_and_streamed() -> None:
    service = FakeService()
    app = app_with(service)

    whole = await ask(app, "POST", WIRES, {"wire": "hi"}, {"x-bridge-timeout": "9"})
    streamed = await ask(app, "POST", WIRES, {"wire": "hi", "stream": True})

    assert (whole.status, whole.json) == (200, {"wire": "HELLO"})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert frames(streamed.body) == [{"wire": "HEL"}, {"wire": "LO"}, "STOP"]
    assert is_wire(whole)
    assert is_wire(streamed)
    assert [request.timeout for request in service.requests] == [9.0, None]
    assert service.requests[0].request_id == "req_0001"


async def test_a_stream_that_breaks_ends_in_its_error() -> None:
    app = app_with(FakeService(STARTED, TextDelta("a"), QueueFullError("full")))

    reply = await ask(app, "POST", WIRES, {"wire": "hi", "stream": True})

    assert frames(reply.body) == [{"wire": "A"}, {"fault": "QUEUE_FULL"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "fault"),
    [(QueueFullError("full"), 529, "QUEUE_FULL"), (ValueError("secret"), 500, "INTERNAL")],
)
async def test_an_error_of_the_core_has_its_status_and_shape(
    error: Exception, status: int, fault: str, stream: bool
) -> None:
    app = app_with(FakeService(error))

    reply = await ask(app, "POST", WIRES, {"wire": "hi", "stream": stream})

    assert (reply.status, reply.json) == (status, {"fault": fault, "about": None})
    assert reply.headers.get("retry-after") == ("1" if status == 529 else None)
    assert is_wire(reply)


@pytest.mark.parametrize(
    ("body", "fault", "about"),
    [(b"{", "INVALID_JSON", None), (b"{}", "INVALID_VALUE", "wire")],
)
async def test_a_wrong_body_has_its_shape(body: bytes, fault: str, about: str | None) -> None:
    reply = await ask(app_with(), "POST", WIRES, chunks=[body])

    assert (reply.status, reply.json) == (422, {"fault": fault, "about": about})


async def test_what_is_refused_before_any_route_has_its_shape() -> None:
    app = app_with(keys=True, max_body_bytes=10)
    key = {"x-wire-key": USER}

    for expected, headers, chunks in (
        (401, {}, [b"{}"]),
        (401, {"authorization": f"Bearer {USER}"}, [b"{}"]),
        (403, {**key, "host": "evil.example"}, [b"{}"]),
        (403, {**key, "origin": "https://evil.example"}, [b"{}"]),
        (413, key, [b" " * 20]),
    ):
        reply = await ask(app, "POST", WIRES, headers=headers, chunks=chunks)
        assert (reply.status, set(reply.json)) == (expected, {"fault", "about"})
        assert is_wire(reply)


async def test_each_dialect_has_its_own_header_for_keys() -> None:
    service = FakeService()
    app = app_with(service, keys=True)
    chat = {"messages": [{"role": "user", "content": "hi"}]}

    sent = await ask(app, "POST", WIRES, {"wire": "hi"}, {"x-wire-key": USER})
    asked = await ask(
        app, "POST", "/v1/chat/completions", chat, {"authorization": f"Bearer {ADMIN}"}
    )
    refused = await ask(app, "POST", "/v1/chat/completions", chat, {"x-wire-key": ADMIN})

    assert (sent.status, asked.status, refused.status) == (200, 200, 401)
    assert refused.error["code"] == "invalid_api_key"
    assert [request.caller for request in service.requests] == ["laptop", "op"]


@pytest.mark.parametrize(("headers", "wire"), [({}, False), (SPEAKS, True)])
async def test_a_url_of_both_is_answered_as_the_request_speaks(
    headers: Mapping[str, str], wire: bool
) -> None:
    reply = await ask(app_with(), "GET", "/v1/models", headers=headers)
    wrong = await ask(app_with(), "DELETE", "/v1/models", headers=headers)

    assert (reply.status, is_wire(reply), "operators" in reply.json) == (200, wire, wire)
    assert (wrong.status, is_wire(wrong), "fault" in wrong.json) == (405, wire, wire)
    assert wrong.headers["allow"] == "GET, HEAD"


async def test_a_url_of_one_is_answered_by_it_whatever_the_request_speaks() -> None:
    reply = await ask(app_with(), "POST", "/v1/chat/completions", {}, SPEAKS)
    other = await ask(app_with(), "GET", WIRES, headers={"openai-organization": "o"})

    assert (reply.status, reply.error["param"]) == (400, "messages")
    assert (other.status, other.json["fault"]) == (405, "METHOD_NOT_SUPPORTED")


@pytest.mark.parametrize(
    ("headers", "path", "wire"),
    [
        ({}, "/nowhere", False),
        (SPEAKS, "/nowhere", True),
        (SPEAKS, "/v1/post", True),
        ({}, "/v1/embeddings", False),
        (SPEAKS, "/metrics", True),
    ],
)
async def test_an_unknown_url_is_answered_as_the_request_speaks_or_by_the_first(
    headers: Mapping[str, str], path: str, wire: bool
) -> None:
    reply = await ask(app_with(), "GET", path, headers=headers)

    assert (reply.status, is_wire(reply)) == (404, wire)
    assert set(reply.json) == ({"fault", "about"} if wire else {"error"})


async def test_the_order_decides_which_is_the_default() -> None:
    app = app_with(dialects=(Telegraph(), *all_dialects()))

    for path in ("/nowhere", "/v1/models", "/health"):
        assert is_wire(await ask(app, "GET", path))
        assert not is_wire(await ask(app, "GET", path, headers={"openai-project": "p"}))


async def test_operations_are_answered_alike_in_each() -> None:
    app = app_with(keys=True)

    health = [await ask(app, "GET", "/health", headers=headers) for headers in ({}, SPEAKS)]
    state = await ask(app, "GET", "/bridge/state", headers={**SPEAKS, "x-wire-key": ADMIN})

    assert health[0].json == health[1].json
    assert state.status == 200


async def test_a_listed_page_may_use_the_headers_of_all() -> None:
    app = app_with(allowed_origins=(PAGE,))
    asked = "x-wire-key, openai-project, x-bridge-strict, x-evil"

    preflight = await ask(
        app,
        "OPTIONS",
        WIRES,
        headers={
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": asked,
        },
    )
    reply = await ask(app, "GET", "/v1/models", headers={"origin": PAGE})

    allowed = preflight.headers["access-control-allow-headers"]
    assert allowed == "x-wire-key, openai-project, x-bridge-strict"
    exposed = reply.headers["access-control-expose-headers"].split(", ")
    assert {"wire-id", "x-request-id", "retry-after"} <= set(exposed)


async def test_the_description_has_the_routes_and_schemas_of_all() -> None:
    described = (await ask(app_with(), "GET", "/openapi.json")).json

    assert {WIRES, "/v1/chat/completions", "/health"} <= set(described["paths"])
    assert {"Wire", "ChatCompletionRequest"} <= set(described["components"]["schemas"])


@pytest.mark.parametrize(
    ("dialects", "keys"),
    [(both(), {"error"}), ((Telegraph(), *all_dialects()), {"fault", "about"})],
)
async def test_a_connection_without_a_request_is_refused_by_the_first(
    dialects: tuple[Dialect, ...], keys: set[str]
) -> None:
    def refused(url: str) -> bytes:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            with connection.makefile("rb") as reply:
                return reply.read()

    with serving(FakeService(), dialects=dialects) as url:
        reply = await asyncio.to_thread(refused, url)

    assert set(json.loads(reply.partition(b"\r\n\r\n")[2])) == keys


def test_without_a_dialect_there_is_no_server() -> None:
    with pytest.raises(ValueError, match="dialect"):
        create_app(FakeService(), [], version="1")
