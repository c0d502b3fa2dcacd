"""Answers that end early, at every place; and what a request that does not stream gets instead."""

from typing import Any

import httpx
import pytest

from bridge.simulator import Simulator
from tests.support.simulator_client import events, failed, names, post, request, run, said

CALL = {"name": "add", "input": {"a": 1}, "fragment": 99}
WHOLE_CALL = [
    "message_start",
    "content_block_start tool_use",
    "content_block_delta input_json_delta",
    "content_block_delta input_json_delta",
    "content_block_stop",
]
PLACES = [
    ("headers", []),
    ("message_start", WHOLE_CALL[:1]),
    (2, WHOLE_CALL[:4]),
    ("content", WHOLE_CALL),
    ("message_delta", [*WHOLE_CALL, "message_delta"]),
]


@pytest.mark.parametrize(("place", "before"), PLACES)
def test_a_body_that_just_ends(place: Any, before: list[str]) -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        response = await post(client, request(tools=[CALL], end_after=place))
        assert response.status_code == 200
        assert names(response.text) == before
        [exchange] = simulator.ledger.exchanges()
        assert (exchange.status, exchange.ended) == (200, "cut")

    run(scenario)


@pytest.mark.parametrize(("place", "before"), PLACES)
def test_an_error_event(place: Any, before: list[str]) -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        body = request(tools=[CALL], error_after=place, error_event="burst")
        text = (await post(client, body)).text
        assert names(text) == [*before, "error"]
        assert events(text)[-1]["error"]["type"] == "rate_limit_error"

    run(scenario)


@pytest.mark.parametrize(("place", "before"), PLACES)
def test_a_connection_that_is_cut(place: Any, before: list[str]) -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        received: list[str] = []

        async def read() -> None:
            body = request(tools=[CALL], cut_after=place)
            async with client.stream("POST", "/v1/messages", json=body) as response:
                async for chunk in response.aiter_text():
                    received.append(chunk)

        with pytest.raises(httpx.TransportError):
            await read()
        assert names("".join(received)) == before
        assert simulator.ledger.exchanges()[0].ended == "cut"

    run(scenario)


def test_an_empty_body_without_a_stream() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        response = await post(client, request(end_after="headers", stream=False))
        assert (response.status_code, response.content) == (200, b"")

    run(scenario)


def test_what_does_not_stream_is_treated_on_its_own() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        directive: dict[str, Any] = {"error_after": "headers", "whole": {"text": "second try"}}
        assert names((await post(client, request(**directive))).text) == ["error"]
        message = (await post(client, request(**directive, stream=False))).json()
        assert message["content"] == [{"type": "text", "text": "second try"}]
        directive = {"text": "first", "whole": {"error": "overloaded"}}
        assert said((await post(client, request(**directive))).text) == "first"
        assert failed(await post(client, request(**directive, stream=False)))[0] == 529
        assert [e.ended for e in simulator.ledger.exchanges()] == [
            "cut",
            "completed",
            "completed",
            "refused",
        ]

    run(scenario)


def test_the_second_try_counts_its_own_failures() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        failure: dict[str, Any] = {"kind": "overloaded", "times": 1}
        directive: dict[str, Any] = {
            "error": failure,
            "text": "a",
            "whole": {"error": failure, "text": "b"},
        }
        statuses = [
            (await post(client, request(**directive, stream=stream))).status_code
            for stream in (True, False, True, False)
        ]
        assert statuses == [529, 529, 200, 200]

    run(scenario)
