"""Keys and their limits, at both APIs of a bridge that asks for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import openai
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bridge.cli.tour import take_tour
from bridge.core.access.budgets import DAY
from bridge.core.access.keys import KeyFile, KeyLimits, KeyScope
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import model_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.model_pb2_grpc import ModelServiceStub
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim

PAGE = "https://chat.test"
GIVEN = "env-secret-that-is-long-enough"


class Guarded:
    """A bridge with keys in its environment and in its file."""

    def __init__(self, running: RunningBridge) -> None:
        self.running = running
        self.file = KeyFile(running.settings.keys_file)
        self.client = openai.OpenAI(
            base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE
        )
        self.channel = grpc.insecure_channel(running.target)
        self._names = 0

    def close(self) -> None:
        self.client.close()
        self.channel.close()

    def key(self, scope: KeyScope = KeyScope.COMPLETE, **limits: Any) -> tuple[str, str]:
        """A new key: its name and its secret."""
        self._names += 1
        name = f"key{self._names}"
        return name, self.file.add(name, scope, KeyLimits(**limits))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread) -> Iterator[Guarded]:
    settings = settings_for_tests(
        tmp_path_factory.mktemp("guarded"),
        bridge_api_keys=f"given={GIVEN}",
        bridge_session_log="full",
        bridge_allowed_hosts="*.bridge.test",
        bridge_allowed_origins=PAGE,
        pool_size=3,
    )
    running = RunningBridge(settings, loop_thread)
    running.start()
    guarded = Guarded(running)
    yield guarded
    guarded.close()
    running.stop()


@dataclass(frozen=True)
class Outcome:
    """What came of a request, in the same words for both APIs."""

    text: str = ""
    refused: str = ""
    """The status of the error."""
    code: str = ""
    message: str = ""
    field: str = ""
    retry_after: float | None = None
    """In seconds, as the API says it."""
    retried: bool | None = None
    """Whether a client would try again by itself."""


def ask_http(
    guarded: Guarded, secret: str | None, text: str = "hi", model: str = "default"
) -> Outcome:
    try:
        reply = guarded.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": text}],
            extra_headers={"authorization": f"Bearer {secret}" if secret else openai.Omit()},
        )
    except openai.APIStatusError as error:
        headers = error.response.headers
        after = headers.get("retry-after-ms")
        status = error.status_code
        return Outcome(
            refused=HTTP[status],
            code=str(error.code),
            message=error.body["message"],  # type: ignore[index]
            field=error.param or "",
            retry_after=None if after is None else int(after) / 1000,
            retried=status == 429 and headers.get("x-should-retry") != "false",
        )
    return Outcome(text=reply.choices[0].message.content or "")


HTTP = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
}
CODES = {
    "INVALID_API_KEY": "invalid_api_key",
    "PERMISSION_DENIED": "permission_denied",
    "MODEL_NOT_FOUND": "model_not_found",
    "KEY_REQUESTS_AT_ONCE": "rate_limit_exceeded",
    "KEY_REQUESTS_PER_MINUTE": "rate_limit_exceeded",
    "KEY_TOKENS_PER_DAY": "rate_limit_exceeded",
    "KEY_USD_PER_MONTH": "rate_limit_exceeded",
}


def metadata(secret: str | None) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),) if secret else ()


def question(text: str, model: str = "default") -> pb.CompleteRequest:
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])
    return pb.CompleteRequest(completion=pb.CompletionSpec(model=model, messages=[message]))


def grpc_failure(error: Any) -> Outcome:
    status = rpc_status.from_call(error)
    assert status is not None, error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    after = None
    for detail in status.details:
        detail.Unpack(info)
        if detail.Unpack(retry):
            after = retry.retry_delay.ToMilliseconds() / 1000
    pushback = dict(error.trailing_metadata()).get("grpc-retry-pushback-ms")
    return Outcome(
        refused=error.code().name,
        code=CODES[info.reason],
        message=status.message,
        field=info.metadata.get("field", ""),
        retry_after=after,
        retried=error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and pushback != "-1",
    )


def ask_grpc(
    guarded: Guarded, secret: str | None, text: str = "hi", model: str = "default"
) -> Outcome:
    call = CompletionServiceStub(guarded.channel).Complete(
        question(text, model), timeout=PATIENCE, metadata=metadata(secret)
    )
    try:
        return Outcome(text="".join(response.event.text_delta.text for response in call))
    except grpc.RpcError as error:
        return grpc_failure(error)


Ask = Callable[..., Outcome]
both = pytest.mark.parametrize("ask", [ask_http, ask_grpc], ids=["http", "grpc"])
BOTH: tuple[Ask, ...] = (ask_http, ask_grpc)


@contextmanager
def held(guarded: Guarded, secret: str) -> Iterator[None]:
    """An answer that has begun and continues until the block ends."""
    endless = {"endless": True, "delay_ms": 5}
    call = CompletionServiceStub(guarded.channel).Complete(
        question(sim(**endless)), timeout=PATIENCE, metadata=metadata(secret)
    )
    next(call)
    yield
    call.cancel()


@both
def test_a_valid_key_is_accepted_and_named_in_the_session_log(guarded: Guarded, ask: Ask) -> None:
    name, secret = guarded.key()
    for key, expected in ((secret, name), (GIVEN, "given")):
        assert ask(guarded, key, sim(text="Welcome.")).text == "Welcome."
        assert f'"key": "{expected}"' in guarded.running.log_path.read_text().splitlines()[-1]


@both
@pytest.mark.parametrize("secret", [None, "wrong-secret-that-is-long-enough", "unused"])
def test_a_request_without_a_valid_key_is_refused(
    guarded: Guarded, ask: Ask, secret: str | None
) -> None:
    outcome = ask(guarded, secret)
    assert (outcome.refused, outcome.code) == ("UNAUTHENTICATED", "invalid_api_key")
    assert not outcome.retried
    assert secret is None or secret not in outcome.message


@both
def test_requests_at_once(guarded: Guarded, ask: Ask) -> None:
    _, secret = guarded.key(concurrent=1)
    with held(guarded, secret):
        outcome = ask(guarded, secret)
        assert (outcome.refused, outcome.retry_after) == ("RESOURCE_EXHAUSTED", 1.0)
        assert "1 concurrent requests" in outcome.message
        assert outcome.retried
        assert ask(guarded, GIVEN).text
    # The one that was left gives its place back as soon as it has ended.
    deadline = time.monotonic() + PATIENCE
    while ask(guarded, secret).refused:
        assert time.monotonic() < deadline


@both
def test_requests_a_minute(guarded: Guarded, ask: Ask) -> None:
    _, secret = guarded.key(per_minute=2)
    began = time.monotonic()
    for api in BOTH:
        assert not api(guarded, secret).refused
    outcome = ask(guarded, secret)
    passed = time.monotonic() - began
    assert (outcome.refused, outcome.code) == ("RESOURCE_EXHAUSTED", "rate_limit_exceeded")
    assert outcome.retry_after is not None
    assert 60 - passed - 1 <= outcome.retry_after <= 60
    assert "2 requests per minute" in outcome.message


@pytest.mark.parametrize(
    ("path", "remaining"),
    [
        ("/v1/chat/completions", "x-ratelimit-remaining-{}"),
        ("/v1/messages", "anthropic-ratelimit-{}-remaining"),
    ],
)
def test_replies_show_what_is_left(guarded: Guarded, path: str, remaining: str) -> None:
    _, secret = guarded.key(per_minute=3, tokens_per_day=100_000)
    question = {"role": "user", "content": sim(tokens=50)}
    body = {"model": "default", "max_tokens": 99, "messages": [question]}
    with httpx.Client(
        base_url=guarded.running.url,
        headers={"authorization": f"Bearer {secret}"},
        timeout=PATIENCE,
    ) as client:
        replies = [client.post(path, json=body) for _ in range(2)]
        streamed = client.post(path, json={**body, "stream": True})
        refused = client.post(path, json=body)

    answered = [*replies, streamed, refused]
    assert [reply.status_code for reply in answered] == [200, 200, 200, 429]
    assert [reply.headers[remaining.format("requests")] for reply in answered] == [*"2100"]
    left = [int(reply.headers[remaining.format("tokens")]) for reply in answered]
    # The head of a stream is usually sent before its answer is counted.
    assert left[0] > left[1] >= left[2] >= left[3] < left[1]


@both
def test_tokens_a_day(guarded: Guarded, ask: Ask) -> None:
    name, secret = guarded.key(tokens_per_day=1)
    assert not ask(guarded, secret).refused
    for api in BOTH:
        outcome = api(guarded, secret)
        assert outcome.refused == "RESOURCE_EXHAUSTED"
        assert "1 tokens per day" in outcome.message
        assert not outcome.retried
        assert outcome.retry_after is not None
        to_midnight = DAY - time.time() % DAY
        assert abs(outcome.retry_after - to_midnight) % DAY < PATIENCE
    assert name in (guarded.running.settings.bridge_state_dir / "usage.json").read_text()


@both
def test_dollars_a_month(guarded: Guarded, ask: Ask) -> None:
    name, secret = guarded.key(usd_per_month=0.000001)
    shadowed, shadow = guarded.key(usd_per_month=0.000001, shadow=True)
    for _ in range(2):
        assert not ask(guarded, shadow).refused
    assert not ask(guarded, secret).refused
    guarded.running.call(guarded.running.bridge.service.booked)
    for api in BOTH:
        outcome = api(guarded, secret)
        assert outcome.refused == "RESOURCE_EXHAUSTED"
        assert "$0.00 per month" in outcome.message
        assert not outcome.retried
        assert outcome.retry_after is not None
        assert outcome.retry_after < 31 * DAY
    metrics = httpx.get(
        f"{guarded.running.url}/metrics",
        headers={"authorization": f"Bearer {guarded.key(KeyScope.ADMIN)[1]}"},
        timeout=PATIENCE,
        trust_env=False,
    ).text
    for key in (name, shadowed):
        series = f'bridge_key_budget_used_ratio{{budget="usd_per_month",key="{key}"}} '
        (line,) = (line for line in metrics.splitlines() if line.startswith(series))
        assert float(line.removeprefix(series)) > 1


def test_tokens_of_an_answer_that_was_left_count_too(guarded: Guarded) -> None:
    _, secret = guarded.key(tokens_per_day=1, concurrent=1)
    with held(guarded, secret):
        pass
    deadline = time.monotonic() + PATIENCE
    while (outcome := ask_http(guarded, secret)).retry_after == 1.0:
        assert time.monotonic() < deadline
    assert "tokens per day" in outcome.message


@both
def test_models(guarded: Guarded, ask: Ask) -> None:
    _, secret = guarded.key(models=("haiku",))
    assert not ask(guarded, secret, model="haiku").refused
    for model in ("default", "opus", "gpt-4"):
        outcome = ask(guarded, secret, model=model)
        assert outcome.refused == "PERMISSION_DENIED"
        assert outcome.field.removeprefix("completion.") == "model"
        assert "haiku" in outcome.message


def test_models_that_a_key_may_not_use_are_not_on_offer_to_it(guarded: Guarded) -> None:
    _, secret = guarded.key(models=("haiku",))
    client = guarded.client.with_options(api_key=secret)
    over_http = [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("opus")
    assert client.models.retrieve("haiku").id == "haiku"
    stub = ModelServiceStub(guarded.channel)
    listed = stub.ListModels(model_pb2.ListModelsRequest(), metadata=metadata(secret))
    with pytest.raises(grpc.RpcError) as raised:
        stub.GetModel(model_pb2.GetModelRequest(id="opus"), metadata=metadata(secret))
    outcome = grpc_failure(raised.value)
    assert (outcome.refused, outcome.field) == ("NOT_FOUND", "id")
    assert [model.id for model in listed.models] == over_http
    assert over_http
    assert all("haiku" in name for name in over_http)


def parked_for(guarded: Guarded, name: str) -> int:
    pool = guarded.running.bridge.engine.pool
    return sum(p.state == "parked" and p.caller == name for p in pool._processes.values())


def test_a_revoked_key_is_out_and_its_conversations_are_given_up(guarded: Guarded) -> None:
    name, secret = guarded.key()
    for api in BOTH:
        assert api(guarded, secret, f"{api.__name__} {sim(text='Hello.')}").text == "Hello."
    guarded.running.wait_until_settled()
    assert parked_for(guarded, name) == 2
    guarded.file.revoke(name)
    # Without any call: the bridge notices it by itself.
    guarded.running.wait_for_processes(lambda _: parked_for(guarded, name) == 0)
    for api in BOTH:
        assert api(guarded, secret).refused == "UNAUTHENTICATED"


def test_an_answer_of_a_key_that_is_revoked_meanwhile_is_not_held_open(guarded: Guarded) -> None:
    name, secret = guarded.key()
    call = CompletionServiceStub(guarded.channel).Complete(
        question(sim(tokens=40, delay_ms=20)), timeout=PATIENCE, metadata=metadata(secret)
    )
    next(call)
    guarded.file.revoke(name)
    assert ask_http(guarded, secret).refused == "UNAUTHENTICATED"
    # It was let in, and is answered to its end.
    assert [response.event.WhichOneof("event") for response in call][-1] == "finished"
    guarded.running.wait_until_settled()
    assert parked_for(guarded, name) == 0


def test_a_revoked_key_has_no_further_turn_on_an_open_call(guarded: Guarded) -> None:
    name, secret = guarded.key()

    async def talk() -> Outcome:
        async with grpc.aio.insecure_channel(guarded.running.target) as channel:
            call = CompletionServiceStub(channel).Converse(metadata=metadata(secret))

            async def turn() -> bool:
                """Say something; whether it was answered to the end."""
                message = pb.UserMessage(parts=[pb.Part(text="hi")])
                await call.write(pb.ConverseRequest(message=message))
                while isinstance(response := await call.read(), pb.ConverseResponse):
                    if response.event.WhichOneof("event") == "finished":
                        return True
                return False

            await call.write(pb.ConverseRequest(open=pb.OpenConversation()))
            assert await turn()
            guarded.file.revoke(name)
            # The same name with another secret is another key.
            guarded.file.add(name)
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                if await turn():
                    return Outcome(text="another turn")
            return Outcome(refused=(await call.code()).name)

    assert guarded.running.call(talk).refused == "UNAUTHENTICATED"


def test_no_secret_is_logged_or_in_an_error(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    name, secret = guarded.key(concurrent=1, models=("haiku",))
    wrong = "sk-bridge-wrong-but-looks-like-one"
    said = []
    for api in BOTH:
        # Of the first the model is refused, the second is none.
        said += [api(guarded, key) for key in (secret, wrong)]
    said.append(ask_http(guarded, GIVEN))
    guarded.file.path.write_text(guarded.file.path.read_text() + "broken")
    said += [api(guarded, secret, model="haiku") for api in BOTH]
    guarded.file.path.write_text(guarded.file.path.read_text().removesuffix("broken"))
    guarded.file.revoke(name)
    said += [api(guarded, secret) for api in BOTH]
    state = guarded.running.settings.bridge_state_dir
    kept = "".join(
        path.read_bytes().decode("latin-1") for path in state.iterdir() if path.is_file()
    )
    everything = f"{caplog.text}{said}{kept}{guarded.running.settings!r}"
    assert "key file" in caplog.text
    for hidden in (secret, wrong, GIVEN):
        assert hidden not in everything


def test_the_tour_goes_in_with_a_key_that_ends_with_it(guarded: Guarded) -> None:
    bridge = guarded.running.bridge
    secrets: list[str] = []
    told: list[str] = []

    async def tour() -> None:
        with bridge.access.temporary_key("tour") as key:
            assert key is not None
            secrets.append(key)
            apis = bridge.http_address, bridge.grpc_address
            await take_tour(*apis, bridge.tls, key, told.append)

    guarded.running.call(tour)
    printed = "".join(told)
    assert printed.count("  > ") == 2
    assert "authorization: Bearer $BRIDGE_API_KEY" in printed
    assert secrets[0] not in printed
    for api in BOTH:
        assert api(guarded, secrets[0]).refused == "UNAUTHENTICATED"


# Pages of other sites, at an API without keys


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "rebound.evil.example"},
        {"origin": "https://evil.example", "content-type": "text/plain"},
        {"sec-fetch-site": "cross-site", "content-type": "text/plain"},
    ],
    ids=["rebinding", "cross-origin post", "cross-site form"],
)
def test_a_page_of_another_site_gets_nothing_without_keys_either(
    bridge: RunningBridge, headers: dict[str, str]
) -> None:
    body = '{"model": "default", "messages": [{"role": "user", "content": "a stolen turn"}]}'
    reply = httpx.post(f"{bridge.url}/v1/chat/completions", content=body, headers=headers)
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "permission_denied"
    assert httpx.get(f"{bridge.url}/health", headers=headers).status_code == 403
    assert not bridge.simulator.ledger.exchanges(containing="a stolen turn")


def test_hosts_and_origins_in_the_settings_are_allowed(guarded: Guarded) -> None:
    url, name = guarded.running.url, {"host": "my.bridge.test"}
    page = {"origin": PAGE, "sec-fetch-site": "cross-site"}
    asking = {**page, "access-control-request-method": "POST"}
    assert httpx.options(f"{url}/v1/chat/completions", headers=asking).status_code == 204
    reply = httpx.get(f"{url}/v1/models", headers={**name, **page})
    assert reply.status_code == 401
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert httpx.get(f"{url}/health", headers={"host": "bridge.test"}).status_code == 403


def test_a_server_with_another_name_reports_only_its_status_without_a_key(guarded: Guarded) -> None:
    _, admin = guarded.key(KeyScope.ADMIN)
    url = f"{guarded.running.url}/health"
    for headers in ({}, dict(metadata(GIVEN))):
        assert httpx.get(url, headers=headers).json() == {"status": "ok"}
    assert httpx.get(url, headers=dict(metadata(admin))).json()["account"] == "simulated"
