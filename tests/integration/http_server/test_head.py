"""HEAD is answered as GET, without a body."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import httpx
import pytest

from bridge.http_server import all_dialects, create_app
from tests.support.fakes import FakeService
from tests.support.harness import PATIENCE, RunningBridge
from tests.support.http.asgi import ask, build

CHANGING = ("x-request-id", "openai-processing-ms")


def lasting(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in CHANGING}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/page.js", 200),
        ("/health", 200),
        ("/v1/models", 200),
        ("/v1/models/opus", 200),
        ("/bridge/state", 200),
        ("/openapi.json", 200),
        ("/v1/models/none", 404),
        ("/nowhere", 404),
        ("/v1/chat/completions", 405),
    ],
)
async def test_head_has_the_status_and_the_headers_of_get(path: str, status: int) -> None:
    app = build(FakeService())
    get, head = await ask(app, "GET", path), await ask(app, "HEAD", path)

    assert (head.status, head.body) == (status, b"")
    assert lasting(head.headers) == lasting(get.headers)
    assert int(head.headers["content-length"]) == len(get.body)


async def test_what_prometheus_scrapes_can_be_asked_for_its_head() -> None:
    app = create_app(
        FakeService(),
        all_dialects(),
        version="1",
        metrics=lambda accept: (b"a 1\n", "text/plain"),
        timer=itertools.count(0.0, 0.25).__next__,
    )
    head = await ask(app, "HEAD", "/metrics")

    assert (head.status, head.body) == (200, b"")


def test_on_a_connection_that_stays_open(bridge: RunningBridge) -> None:
    with httpx.Client(base_url=bridge.url, timeout=PATIENCE, trust_env=False) as client:
        for _ in range(2):
            assert client.head("/health").status_code == 200
            assert client.get("/health").json()["status"] == "ok"
