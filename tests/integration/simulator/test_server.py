"""The simulator over real sockets."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from bridge.simulator import Exchange, Simulator
from tests.support.simulator_client import run


def request(said: str = "Hello", *, stream: bool = True, **directive: Any) -> dict[str, Any]:
    text = f"{said} [[sim {json.dumps(directive)}]]" if directive else said
    return {
        "model": "claude-opus-5-5",
        "max_tokens": 100_000,
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
    }


def deltas(body: str) -> list[str]:
    payloads = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
    return [p["delta"]["text"] for p in payloads if p["type"] == "content_block_delta"]


def ended(found: Sequence[Exchange]) -> bool:
    return bool(found) and found[-1].ended is not None


def error(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    return response.status_code, body["error"]["type"], body["error"]["message"]


def test_a_streamed_answer_is_whole_and_in_order() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        body = request(tokens=1000, headers={"anthropic-ratelimit-unified-status": "allowed"})
        response = await client.post("/v1/messages?beta=true", json=body)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["anthropic-ratelimit-unified-status"] == "allowed"
        assert deltas(response.text) == [f"w{n} " for n in range(1000)]
        [exchange] = simulator.ledger.exchanges()
        assert (exchange.status, exchange.ended) == (200, "completed")
        assert exchange.usage is not None
        assert exchange.usage["output_tokens"] == 1000
        assert exchange.body == body

    run(scenario)


def test_a_whole_answer() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/messages", json=request(stream=False, text="Hello"))
        assert response.json()["content"] == [{"type": "text", "text": "Hello"}]
        assert simulator.ledger.exchanges()[0].ended == "completed"

    run(scenario)


def test_paced_deltas_and_pings_come_one_by_one() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        body = request(tokens=6, delay_ms=1, first_delay_ms=1, ping_every=2)
        text = (await client.post("/v1/messages", json=body)).text
        assert deltas(text) == [f"w{n} " for n in range(6)]
        assert text.count("event: ping") == 1 + 3

    run(scenario)


def test_other_endpoints() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        assert (await client.get("/")).status_code == 200
        assert (await client.head("/")).status_code == 200
        assert (await client.head("/api/hello")).status_code == 200
        assert error(await client.get("/v1/models"))[:2] == (404, "not_found_error")
        assert error(await client.get("/v1/messages"))[:2] == (404, "not_found_error")
        counted = {key: value for key, value in request("x" * 41).items() if key != "max_tokens"}
        response = await client.post("/v1/messages/count_tokens", json=counted)
        assert response.json() == {"input_tokens": 11}
        assert simulator.ledger.exchanges() == ()

    run(scenario)


def test_a_key_of_either_kind_is_needed() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        del client.headers["x-api-key"]
        refused = await client.post("/v1/messages", json=request())
        assert error(refused)[:2] == (401, "authentication_error")
        bearer = {"authorization": "Bearer token"}
        accepted = await client.post("/v1/messages", json=request(), headers=bearer)
        assert accepted.status_code == 200
        assert [e.ended for e in simulator.ledger.exchanges()] == ["refused", "completed"]

    run(scenario)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "should be an object"),
        (b'{"messages": ["\\ud800"]}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff", "not valid JSON"),
    ],
)
def test_a_body_that_is_no_request_is_refused(content: bytes, message: str) -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        status, kind, said = error(await client.post("/v1/messages", content=content))
        assert (status, kind) == (400, "invalid_request_error")
        assert message in said
        assert simulator.ledger.exchanges()[0].ended == "refused"

    run(scenario)


def test_too_large_a_body_is_refused() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/messages", content=b" " * (32 * 1024 * 1024 + 1))
        assert error(response)[:2] == (413, "request_too_large")

    run(scenario)


def test_rules_and_bad_directives_are_refused() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        hot = await client.post("/v1/messages", json=request() | {"temperature": 2})
        assert error(hot) == (400, "invalid_request_error", "temperature: range: 0..1")
        bad = await client.post("/v1/messages", json=request(txet="x"))
        assert "bad directive: directive: unknown key 'txet'" in error(bad)[2]
        tool = await client.post("/v1/messages", json=request(tools=[{"name": "add"}]))
        assert "directive calls a tool that was not offered" in error(tool)[2]
        assert {(e.status, e.ended) for e in simulator.ledger.exchanges()} == {(400, "refused")}

    run(scenario)


def test_a_scripted_error_occurs_as_often_as_scripted() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        failure = {
            "status": 429,
            "message": "slow down",
            "headers": {"retry-after": "7"},
            "times": 2,
        }
        for _ in range(2):
            response = await client.post("/v1/messages", json=request(error=failure, text="ok"))
            assert error(response) == (429, "rate_limit_error", "slow down")
            assert response.headers["retry-after"] == "7"
        response = await client.post("/v1/messages", json=request(error=failure, text="ok"))
        assert deltas(response.text) == ["ok"]
        again = await client.post("/v1/messages", json=request(error=failure, text="ok", note="2"))
        assert again.status_code == 429
        assert [e.status for e in simulator.ledger.exchanges()] == [429, 429, 200, 429]

    run(scenario)


def test_an_error_inside_the_stream() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        text = (await client.post("/v1/messages", json=request(tokens=9, error_after=3))).text
        assert deltas(text.split("event: error")[0]) == ["w0 ", "w1 ", "w2 "]
        assert json.loads(text.split("data: ")[-1])["error"]["type"] == "overloaded_error"
        assert simulator.ledger.exchanges()[0].ended == "cut"
        whole = request(tokens=9, error_after=3, stream=False)
        assert error(await client.post("/v1/messages", json=whole))[0] == 529

    run(scenario)


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_connection(stream: bool) -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        body = request(tokens=9, cut_after=3, stream=stream)
        received: list[str] = []

        async def read() -> None:
            async with client.stream("POST", "/v1/messages", json=body) as response:
                async for chunk in response.aiter_text():
                    received.append(chunk)

        with pytest.raises(httpx.TransportError):
            await read()
        if stream:
            assert deltas("".join(received)) == ["w0 ", "w1 ", "w2 "]
        assert simulator.ledger.exchanges()[0].ended == "cut"
        # It is this connection alone that was cut.
        assert (await client.post("/v1/messages", json=request())).status_code == 200

    run(scenario)


@pytest.mark.parametrize(
    "directive",
    [
        {"endless": True},
        {"endless": True, "delay_ms": 1},
        {"tokens": 9, "hang_after": 3},
        {"tokens": 9, "delay_ms": 1_000_000},
    ],
)
def test_a_client_that_leaves_is_noticed(directive: dict[str, Any]) -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        body = request(**directive)
        async with client.stream("POST", "/v1/messages", json=body) as response:
            async for line in response.aiter_lines():
                if "w0 " in line:
                    break
            assert simulator.ledger.exchanges()[0].ended is None
        [exchange] = await simulator.ledger.wait_for_async(ended)
        assert (exchange.status, exchange.ended) == (200, "client_closed")

    run(scenario)


def test_a_client_that_leaves_before_any_answer_is_noticed() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        asking = asyncio.create_task(client.post("/v1/messages", json=request(hang=True)))
        await simulator.ledger.wait_for_async(lambda found: len(found) == 1)
        asking.cancel()
        [exchange] = await simulator.ledger.wait_for_async(ended)
        assert (exchange.status, exchange.ended) == (None, "client_closed")
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(scenario)


def test_closing_cuts_what_is_open() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        bodies = [request(hang=True), request(endless=True), request(tokens=1, hang_after=1)]
        asking = [asyncio.create_task(client.post("/v1/messages", json=b)) for b in bodies]
        await simulator.ledger.wait_for_async(
            lambda found: [e.status for e in found].count(200) == 2 and len(found) == 3
        )
        await simulator.aclose()
        assert [e.ended for e in simulator.ledger.exchanges()] == ["cut"] * 3
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(result, httpx.TransportError) for result in results)
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
        await simulator.aclose()

    run(scenario)


def test_it_can_be_started_again_on_its_port() -> None:
    async def main() -> None:
        simulator = Simulator()
        await simulator.start()
        port = simulator.port
        assert simulator.base_url == f"http://127.0.0.1:{port}"
        with pytest.raises(RuntimeError, match="already started"):
            await simulator.start()
        with pytest.raises(OSError, match="in use"):
            await Simulator(port=port).start()
        await simulator.aclose()
        async with simulator, httpx.AsyncClient(base_url=simulator.base_url) as client:
            assert simulator.port == port
            assert (await client.get("/")).status_code == 200

    asyncio.run(main())


def test_the_prompt_cache_is_accounted() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        body = request(stream=False)
        mark = {"cache_control": {"type": "ephemeral"}}
        body["system"] = [{"type": "text", "text": "x" * 400} | mark]
        for read in (0, 100):
            usage = (await client.post("/v1/messages", json=body)).json()["usage"]
            assert usage["cache_read_input_tokens"] == read
            assert usage["cache_creation_input_tokens"] == 100 - read
        assert len(simulator.ledger.exchanges(containing="xxxx")) == 2

    run(scenario, cache_minimum_tokens=100)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_it_runs_alone_until_a_signal() -> None:
    command = [sys.executable, "-m", "bridge.simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert httpx.get(url, timeout=60).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
