"""Who may use the HTTP API: keys, and pages of other sites. The real app, a scripted core."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers

from bridge.core.access.authentication import Access
from bridge.core.access.keys import KeyFile, KeyScope, parse_given
from bridge.core.contract.errors import PermissionDeniedError
from bridge.http_server.app import create_app
from bridge.http_server.context import HttpSettings
from bridge.http_server.dialects import all_dialects
from bridge.http_server.middleware.access import AccessMiddleware, needed_for
from bridge.http_server.middleware.browsers import BrowserRules
from tests.support.fakes import FakeService
from tests.support.http.asgi import Exchange, ask, chat

USER, ADMIN = "user-secret-long-enough", "admin-secret-long-enough"
OF_A_FLEET = ("x-bridge-error", "x-bridge-found-on", "x-bridge-replica")
PAGE = "https://chat.example.com"


@cache
def app_with(service: FakeService | None = None, *, keys: bool = True, **settings: Any) -> FastAPI:
    access = Access(parse_given(f"laptop={USER},op:admin={ADMIN}") if keys else ())
    return create_app(
        service or FakeService(),
        all_dialects(),
        version="1.2.3",
        settings=HttpSettings(**settings),
        access=access,
    )


def with_key(secret: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{scheme} {secret}"}


# Keys


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_valid_key_is_accepted_and_its_name_is_the_caller(scheme: str) -> None:
    service = FakeService()
    assert (await chat(app_with(service), with_key(USER, scheme))).status == 200
    assert [request.caller for request in service.requests] == ["laptop"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        with_key("wrong-secret-long-enough"),
        with_key(USER, "Basic"),
        {"authorization": USER},
        {"x-api-key": USER},
        {"api-key": USER},
        with_key(f"{USER}\xff"),
    ],
)
async def test_requests_without_its_key_are_refused(headers: dict[str, str]) -> None:
    service = FakeService()
    reply = await chat(app_with(service), headers)
    assert reply.status == 401
    assert reply.error["code"] == "invalid_api_key"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["x-request-id"].startswith("req_")
    assert USER not in reply.body.decode()
    assert "wrong" not in reply.error["message"]
    assert not service.requests


async def test_the_log_has_the_reason_of_a_refusal_but_not_the_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    reply = await chat(app_with(), with_key("wrong-secret-long-enough"))
    request_id = reply.headers["x-request-id"]
    assert f"{request_id}: AuthenticationError (INVALID_API_KEY)" in caplog.text
    assert "wrong-secret" not in caplog.text


async def test_two_keys_at_once_are_none() -> None:
    app = app_with()
    exchange = Exchange(app, "GET", "/v1/models", headers=with_key(USER))
    # Before the app runs; a mapping cannot hold a name twice.
    exchange.scope["headers"].append((b"authorization", f"Bearer {ADMIN}".encode()))
    assert (await exchange.finished()).status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/opus"),
        ("POST", "/v1/completions"),
        ("GET", "/openapi.json"),
        ("GET", "/bridge/state"),
        ("GET", "/metrics"),
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/nowhere"),
        ("HEAD", "/v1/models"),
        ("HEAD", "/metrics"),
        ("GET", "//"),
        ("GET", "/health/"),
        ("GET", "/Health"),
        ("GET", "//health"),
        ("GET", "/health/../v1/models"),
        ("OPTIONS", "/v1/models"),
        ("DELETE", "/v1/chat/completions"),
    ],
)
async def test_every_url_but_health_and_the_page_asks_for_a_key(method: str, path: str) -> None:
    assert (await ask(app_with(), method, path)).status == 401


async def test_the_head_alone_is_enough_to_refuse() -> None:
    chunks = [b"{" * 10] * 5
    exchange = Exchange(app_with(), "POST", "/v1/chat/completions", chunks=chunks)
    assert (await exchange.finished()).status == 401
    assert exchange.unread == 5


async def test_a_key_that_is_revoked_while_the_body_comes_is_refused(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    secret = file.add("laptop")
    service = FakeService()
    app = create_app(service, all_dialects(), version="1", access=Access(store=file))
    body = b'{"model": "opus", "messages": [{"role": "user", "content": "hi"}]}'
    exchange = Exchange(
        app, "POST", "/v1/chat/completions", headers=with_key(secret), chunks=[body[:9], body[9:]]
    )
    arriving = exchange._chunks

    class Slow(list[bytes]):
        def pop(self, index: Any = -1) -> bytes:
            if len(self) == 1:
                # The same name with another secret is another key.
                file.revoke("laptop")
                file.add("laptop")
            return super().pop(index)

    exchange._chunks = Slow(arriving)
    assert (await exchange.finished()).status == 401
    assert not service.requests


async def test_without_keys_any_key_will_do() -> None:
    service = FakeService()
    app = app_with(service, keys=False)
    for headers in ({}, with_key("unused")):
        assert (await chat(app, headers)).status == 200
    assert [request.caller for request in service.requests] == ["", ""]


async def test_models_are_asked_for_in_the_name_of_the_key() -> None:
    asked: list[str] = []

    class Service(FakeService):
        async def models(self, caller: str = "") -> Any:
            asked.append(caller)
            return await super().models()

        async def model(self, name: str, caller: str = "") -> Any:
            asked.append(caller)
            return await super().model(name)

    app = app_with(Service())
    await ask(app, "GET", "/v1/models", headers=with_key(USER))
    await ask(app, "GET", "/v1/models/opus", headers=with_key(ADMIN))
    assert asked == ["laptop", "op"]


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("/health", None),
        ("/metrics", KeyScope.ADMIN),
        ("/v1/models", KeyScope.COMPLETE),
        ("/", KeyScope.COMPLETE),
        ("/logs", KeyScope.COMPLETE),
        ("/logs/", KeyScope.ADMIN),
        ("/logs/today", KeyScope.ADMIN),
        ("/health/more", KeyScope.COMPLETE),
    ],
)
def test_the_scope_that_a_url_needs(path: str, needed: KeyScope | None) -> None:
    needs = {"/health": None, "/metrics": KeyScope.ADMIN, "/logs/": KeyScope.ADMIN}
    assert needed_for(path, needs) is needed


@pytest.mark.parametrize(("secret", "status"), [(USER, 403), (ADMIN, 404), (None, 401)])
async def test_what_is_for_admins_needs_an_admin_key(secret: str | None, status: int) -> None:
    # No such page yet: a caller who may see it learns that.
    reply = await ask(app_with(), "GET", "/metrics", headers=with_key(secret) if secret else None)
    assert reply.status == status


async def test_a_websocket_is_turned_away() -> None:
    async def app(*_: object) -> None:
        raise AssertionError("it was let in")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await AccessMiddleware(app, Access(), BrowserRules())({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


# Health


async def test_health_needs_no_key() -> None:
    reply = await ask(app_with(), "GET", "/health")
    assert reply.status == 200
    assert reply.json["account"] == "subscription"


@pytest.mark.parametrize("headers", [{}, with_key(USER), with_key("wrong-secret-long-enough")])
async def test_off_loopback_health_reports_only_its_status(headers: dict[str, str]) -> None:
    reply = await ask(app_with(public=True), "GET", "/health", headers=headers)
    assert (reply.status, reply.json) == (200, {"status": "ok"})


async def test_off_loopback_health_reports_everything_to_an_admin() -> None:
    reply = await ask(app_with(public=True), "GET", "/health", headers=with_key(ADMIN))
    assert reply.json["account"] == "subscription"


# Browsers

RULES = BrowserRules(("bridge.example.com", "*.lan"), (PAGE,))


def refused(
    headers: Mapping[str, str] | list[tuple[str, str]],
    rules: BrowserRules = RULES,
    *,
    http_version: str = "1.1",
    local: str | None = "127.0.0.1",
) -> str | None:
    """The header for which a request is refused; None where it is let in."""
    pairs = headers if isinstance(headers, list) else list(headers.items())
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    try:
        rules.check(Headers(raw=raw), http_version, local)
    except PermissionDeniedError as error:
        return error.field
    return None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "127.0.0.1:8000",
        "127.0.0.2",
        "[::1]:8000",
        "bridge.example.com",
        "nas.lan:443",
    ],
)
def test_hosts_of_ours(host: str) -> None:
    assert refused({"Host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "sub.bridge.example.com",
        "192.168.1.5",
        "lan",
        "",
        "a b",
        "localhost, localhost",
        "\xe9vil",
    ],
)
def test_foreign_hosts(host: str) -> None:
    assert refused({"Host": host}) == "Host"


def test_the_address_that_a_connection_came_in_on_is_ours() -> None:
    assert refused({"Host": "192.168.1.5:8000"}, local="192.168.1.5") is None
    assert refused({"Host": "[2001:db8:0::1]:8000"}, local="2001:db8::1") is None
    assert refused({"Host": "192.168.1.6"}, local="192.168.1.5") == "Host"


def test_a_unix_socket_has_any_name() -> None:
    assert refused({"Host": "whatever"}, local=None) is None
    assert refused({"Host": "whatever", "Origin": "http://other"}, local=None) == "Origin"


def test_only_old_clients_may_omit_the_host_and_two_are_refused() -> None:
    assert refused({}, http_version="1.0") is None
    assert refused({}) == "Host"
    assert refused([("Host", "localhost"), ("Host", "localhost")]) == "Host"
    assert refused([("Host", "localhost"), ("Host", "evil.example")]) == "Host"


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Origin": "http://localhost:8000"}, None),
        ({"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}, None),
        ({"Sec-Fetch-Site": "none"}, None),
        ({"Sec-Fetch-Site": "None"}, None),
        ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, None),
        ({"Origin": "https://evil.example"}, "Origin"),
        ({"Origin": "null"}, "Origin"),
        ({"Origin": ""}, "Origin"),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, "Origin"),
        ({"Origin": f"{PAGE}.evil.example"}, "Origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "Sec-Fetch-Site"),
        ({"Sec-Fetch-Site": "same-site"}, "Sec-Fetch-Site"),
        ({"Sec-Fetch-Site": ""}, "Sec-Fetch-Site"),
        ({"Origin": "http://localhost:8000", "Sec-Fetch-Site": "cross-site"}, "Sec-Fetch-Site"),
    ],
)
def test_pages_of_ours_and_of_others(headers: dict[str, str], field: str | None) -> None:
    assert refused({"Host": "localhost:8000", **headers}) == field


def test_a_header_that_comes_twice_does_not_help() -> None:
    host = ("Host", "localhost:8000")
    assert refused([host, ("Origin", PAGE), ("Origin", "https://evil.example")]) == "Origin"
    sites = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]
    assert refused([host, *sites]) == "Sec-Fetch-Site"


FOREIGN: tuple[dict[str, str], ...] = (
    {"host": "evil.example:8000"},
    {"origin": "https://evil.example"},
    {"sec-fetch-site": "cross-site"},
)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("keys", [True, False])
async def test_a_foreign_page_gets_nothing_on_loopback_either(
    headers: dict[str, str], *, keys: bool
) -> None:
    service = FakeService()
    app = app_with(service, keys=keys)
    for reply in (
        await chat(app, {**headers, **with_key(ADMIN)}),
        await ask(app, "GET", "/health", headers=headers),
        await ask(app, "GET", "/v1/models", headers={**headers, **with_key(ADMIN)}),
    ):
        assert reply.status == 403
        assert reply.error["code"] == "permission_denied"
        assert "access-control-allow-origin" not in reply.headers
    assert not service.requests


async def test_the_remedy_is_named() -> None:
    reply = await ask(app_with(), "GET", "/health", headers={"host": "nas.lan"})
    assert "BRIDGE_ALLOWED_HOSTS" in reply.error["message"]
    assert reply.error["param"] == "Host"
    reply = await ask(app_with(), "GET", "/health", headers={"origin": "http://a.example"})
    assert "BRIDGE_ALLOWED_ORIGINS" in reply.error["message"]


def asking(origin: str, headers: str = "authorization,content-type") -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": headers,
        "sec-fetch-site": "cross-site",
    }


async def test_a_listed_page_may_ask_what_it_may_send() -> None:
    app = app_with(allowed_origins=(PAGE,))
    asked = "authorization, content-type,X-Stainless-Lang,x-bridge-strict,x-evil"
    reply = await ask(app, "OPTIONS", "/v1/chat/completions", headers=asking(PAGE, asked))
    assert (reply.status, reply.body) == (204, b"")
    headers = reply.headers
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-headers"] == (
        "authorization, content-type, x-stainless-lang, x-bridge-strict"
    )
    assert "POST" in headers["access-control-allow-methods"]
    assert headers["vary"] == "Origin, Access-Control-Request-Headers"
    assert "access-control-allow-credentials" not in headers


async def test_a_listed_page_may_send_what_clients_in_other_browsers_send() -> None:
    asked = (
        "authorization, content-type, user-agent, x-api-key, http-referer, x-title, "
        "x-requested-with, cache-control, x-stainless-retry-count"
    )
    app = app_with(allowed_origins=(PAGE,))
    reply = await ask(app, "OPTIONS", "/v1/chat/completions", headers=asking(PAGE, asked))
    assert reply.headers["access-control-allow-headers"] == asked


async def test_a_page_that_is_not_listed_may_not() -> None:
    app = app_with(allowed_origins=(PAGE,))
    for origin in ("https://evil.example", "null"):
        reply = await ask(app, "OPTIONS", "/v1/models", headers=asking(origin))
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["vary"] == "Origin"


async def test_a_listed_page_can_read_replies_and_errors() -> None:
    app = app_with(allowed_origins=(PAGE,))
    page = {"origin": PAGE, "sec-fetch-site": "cross-site"}
    for expected, reply in (
        (200, await chat(app, {**page, **with_key(USER)})),
        (200, await chat(app, {**page, **with_key(USER)}, stream=True)),
        (400, await chat(app, {**page, **with_key(USER)}, n=2)),
        (401, await chat(app, page)),
        (404, await ask(app, "GET", "/nowhere", headers={**page, **with_key(USER)})),
        (403, await ask(app, "GET", "/health", headers={**page, "host": "evil.example"})),
    ):
        assert reply.status == expected
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert reply.headers["vary"] == "Origin"
        exposed = reply.headers["access-control-expose-headers"]
        for name in ("x-request-id", "x-bridge-ignored-params", "retry-after", *OF_A_FLEET):
            assert name in exposed
        assert "access-control-allow-credentials" not in reply.headers


async def test_others_get_no_cors_headers() -> None:
    reply = await chat(app_with(allowed_origins=(PAGE,)), with_key(USER))
    assert "access-control-allow-origin" not in reply.headers
    assert reply.headers["vary"] == "Origin"
    assert "vary" not in (await chat(app_with(), with_key(USER))).headers
