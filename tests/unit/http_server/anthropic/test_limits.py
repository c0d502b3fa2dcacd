"""What a key may use, in the headers of each dialect's replies."""

from __future__ import annotations

import pytest

from bridge.core.access.authentication import Access
from bridge.core.access.keys import parse_given
from bridge.core.contract.states import Allowance, Allowances
from bridge.http_server import HttpSettings
from tests.support.fakes import FakeService
from tests.support.http.asgi import CLOCK, Exchange, ask, build

KEY = "user-secret-long-enough"
LEFT = Allowances(Allowance(60, 59, CLOCK + 60), Allowance(10_000, 0, CLOCK + 3 * 3600 + 61))
BODY = {"model": "opus", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
OPENAIS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1m0s",
    "x-ratelimit-limit-tokens": "10000",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "3h1m1s",
}
ANTHROPICS = {
    "anthropic-ratelimit-requests-limit": "60",
    "anthropic-ratelimit-requests-remaining": "59",
    "anthropic-ratelimit-requests-reset": "2023-11-14T22:14:21Z",
    "anthropic-ratelimit-tokens-limit": "10000",
    "anthropic-ratelimit-tokens-remaining": "0",
    "anthropic-ratelimit-tokens-reset": "2023-11-15T01:14:22Z",
}


async def replies_of(service: FakeService, path: str, headers: dict[str, str]) -> list[Exchange]:
    """A whole and a streamed answer, and an error."""
    app = build(service, access=Access(parse_given(f"user={KEY}")))
    bodies = (BODY, BODY | {"stream": True}, BODY | {"messages": []})
    return [await ask(app, "POST", path, body, headers) for body in bodies]


def of_limits(reply: Exchange) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if "ratelimit" in name}


@pytest.mark.parametrize(
    ("path", "header", "expected"),
    [
        ("/v1/chat/completions", {"authorization": f"Bearer {KEY}"}, OPENAIS),
        ("/v1/messages", {"x-api-key": KEY}, ANTHROPICS),
    ],
)
async def test_every_reply_shows_the_limits_of_its_key(
    path: str, header: dict[str, str], expected: dict[str, str]
) -> None:
    service = FakeService()
    service.left = LEFT
    replies = await replies_of(service, path, header)

    assert [reply.status for reply in replies] == [200, 200, 400]
    assert [of_limits(reply) for reply in replies] == [expected] * 3
    service.left = Allowances(tokens=LEFT.tokens)
    assert of_limits((await replies_of(service, path, header))[0]) == {
        name: value for name, value in expected.items() if "tokens" in name
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_without_limits_or_without_a_key_there_are_no_such_headers(path: str) -> None:
    service = FakeService()
    limited = FakeService()
    limited.left = LEFT
    keyed = {"authorization": f"Bearer {KEY}"}

    assert [of_limits(reply) for reply in await replies_of(service, path, keyed)] == [{}] * 3
    refused = await replies_of(limited, path, {})
    assert [(reply.status, of_limits(reply)) for reply in refused] == [(401, {})] * 3


async def test_pages_may_read_them() -> None:
    page = "https://chat.example.com"
    settings = HttpSettings(allowed_origins=(page,))
    service = FakeService()
    service.left = LEFT
    for path in ("/v1/chat/completions", "/v1/messages"):
        reply = await ask(
            build(service, settings, access=Access(parse_given(f"user={KEY}"))),
            "POST",
            path,
            BODY,
            {"authorization": f"Bearer {KEY}", "origin": page},
        )
        exposed = reply.headers["access-control-expose-headers"].lower().split(", ")
        assert of_limits(reply).keys() <= {*exposed}
