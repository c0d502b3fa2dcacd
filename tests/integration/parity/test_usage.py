"""What was used and what it cost, asked for over HTTP and gRPC: the same answers and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import jsonschema
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bridge.core.access.keys import KeyFile, KeyScope
from bridge.core.claude.session import Session
from bridge.v1 import completion_pb2, usage_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.usage_pb2_grpc import UsageServiceStub
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim

TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")


class Used:
    """A bridge whose keys have used something."""

    def __init__(self, running: RunningBridge) -> None:
        self.running = running
        file = KeyFile(running.settings.keys_file)
        self.secrets = {name: file.add(name) for name in ("anna", "bob")}
        self.secrets["boss"] = file.add("boss", KeyScope.ADMIN)
        self.http = httpx.Client(base_url=running.url, timeout=PATIENCE, trust_env=False)
        self.channel = grpc.insecure_channel(running.target)
        self.ids = [self.over_http("anna"), self.over_http("bob"), self.over_grpc("bob")]

    def close(self) -> None:
        self.http.close()
        self.channel.close()

    def over_http(self, key: str) -> str:
        """Ask; returns the request's id."""
        body = {"model": "opus", "messages": [{"role": "user", "content": sim(text="Hi.")}]}
        reply = self.http.post("/v1/chat/completions", json=body, headers=self.head(key))
        return reply.raise_for_status().headers["x-request-id"]

    def over_grpc(self, key: str) -> str:
        """Ask; returns the request's id."""
        part = completion_pb2.Part(text=sim(text="Hi."))
        message = completion_pb2.Message(role=completion_pb2.ROLE_USER, parts=[part])
        spec = completion_pb2.CompletionSpec(model="haiku", messages=[message])
        reply = CompletionServiceStub(self.channel).CreateCompletion(
            completion_pb2.CreateCompletionRequest(completion=spec),
            metadata=self.metadata(key),
            timeout=PATIENCE,
        )
        return reply.request_id

    def head(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secrets[key]}"}

    def metadata(self, key: str) -> tuple[tuple[str, str], ...]:
        return tuple(self.head(key).items())

    def get(self, caller: str, /, **asked: str) -> httpx.Response:
        return self.http.get("/v1/usage", params=asked, headers=self.head(caller))

    def call(self, caller: str, /, **asked: str) -> Any:
        """The same over gRPC: the reply, or the error."""
        stub, sender = UsageServiceStub(self.channel), self.metadata(caller)
        try:
            if "request_id" in asked:
                one = usage_pb2.GetRequestUsageRequest(**asked)
                return stub.GetRequestUsage(one, metadata=sender, timeout=PATIENCE)
            sums = usage_pb2.GetUsageRequest(**asked)
            return stub.GetUsage(sums, metadata=sender, timeout=PATIENCE)
        except grpc.RpcError as error:
            return error


@pytest.fixture(scope="module")
def spent() -> Iterator[dict[Session, float]]:
    """What Claude Code says in total of each session of this module's servers."""
    seen: dict[Session, float] = {}
    book = Session.book

    async def noted(session: Session) -> Any:
        cost = await book(session)
        total = await session._spent()
        assert total is not None
        seen[session] = total.usd
        return cost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "book", noted)
        yield seen


@pytest.fixture(scope="module")
def used(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread, spent: dict[Session, float]
) -> Iterator[Used]:
    settings = settings_for_tests(
        tmp_path_factory.mktemp("used"), bridge_api_keys="given=a-secret-that-is-long-enough"
    )
    running = RunningBridge(settings, loop_thread)
    running.start()
    try:
        used = Used(running)
        yield used
        used.close()
    finally:
        running.stop()


def test_a_request_is_told_with_its_cost_right_after_its_answer(used: Used) -> None:
    for id in (used.over_http("anna"), used.over_grpc("anna")):
        told = used.get("anna", request_id=id).raise_for_status().json()
        reply = used.call("anna", request_id=id)
        assert told["request_id"] == reply.request_id == id
        assert told["cost_usd"] == reply.cost.usd > 0
        assert told["billed"] is reply.cost.billed is False
        assert (told["payer"], told["key"]) == (reply.cost.payer, reply.key) == ("default", "anna")
        assert told["model"] == reply.model
        assert [told[name] for name in TOKENS] == [getattr(reply.tokens, name) for name in TOKENS]
        assert told["output_tokens"] > 0


COST = {"x-bridge-include-cost": "true"}
QUESTION = [{"role": "user", "content": sim(text="One two.")}]
TOOL = {"name": "f", "input_schema": {"type": "object"}}
CHAT = {"model": "opus", "messages": QUESTION}
CALL = {**CHAT, "messages": [{"role": "user", "content": sim(tools=[{"name": "f"}])}]}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", CHAT),
        ("chat/completions", {**CHAT, **STREAM}),
        ("completions", {"model": "opus", "prompt": sim(text="One.")}),
        ("completions", {"model": "opus", "prompt": sim(text="One."), **STREAM}),
        ("responses", {"model": "opus", "input": sim(text="One.")}),
        ("responses", {"model": "opus", "input": sim(text="One."), "stream": True}),
        ("messages", {**CHAT, "max_tokens": 9}),
        ("messages", {**CHAT, "max_tokens": 9, "stream": True}),
        # These end in other ways: cut by the bridge, and with a call that waits for its result.
        ("messages", {**CHAT, "max_tokens": 9, "stop_sequences": ["two"]}),
        ("messages", {**CALL, "max_tokens": 9, "tools": [TOOL]}),
    ],
)
def test_a_reply_has_its_cost_if_it_is_asked_for(
    used: Used, path: str, body: dict[str, Any]
) -> None:
    reply = used.http.post(f"/v1/{path}", json=body, headers={**used.head("anna"), **COST})
    cost = last_cost(reply.raise_for_status().text)
    id = reply.headers.get("x-request-id") or reply.headers["request-id"]
    told = used.get("anna", request_id=id).json()
    assert cost == {name: told[f"cost_{name}" if name == "usd" else name] for name in cost}
    assert set(cost) == {"usd", "billed", "payer"}
    assert cost["usd"] > 0
    plain = used.http.post(f"/v1/{path}", json=body, headers=used.head("anna"))
    assert '"cost"' not in plain.raise_for_status().text


def last_cost(text: str) -> Any:
    """The cost in a reply, or in the event of a stream that has one."""
    _, found, rest = text.rpartition('"cost":')
    assert found, text
    return json.JSONDecoder().raw_decode(rest.strip())[0]


@pytest.mark.parametrize("asked", [True, False])
def test_an_answer_over_grpc_has_its_cost_if_it_is_asked_for(used: Used, *, asked: bool) -> None:
    part = completion_pb2.Part(text=sim(text="Hi."))
    message = completion_pb2.Message(role=completion_pb2.ROLE_USER, parts=[part])
    spec = completion_pb2.CompletionSpec(model="haiku", messages=[message], include_cost=asked)
    stub, sender = CompletionServiceStub(used.channel), used.metadata("bob")
    whole = stub.CreateCompletion(
        completion_pb2.CreateCompletionRequest(completion=spec), metadata=sender, timeout=PATIENCE
    )
    events = [
        response.event
        for response in stub.Complete(
            completion_pb2.CompleteRequest(completion=spec), metadata=sender, timeout=PATIENCE
        )
    ]
    for id, end in (
        (whole.request_id, whole),
        (events[0].started.request_id, events[-1].finished),
    ):
        assert end.HasField("cost") is asked
        told = used.call("bob", request_id=id)
        assert told.cost == end.cost or not asked
        assert told.cost.usd > 0


def test_the_sums_of_an_admin_are_those_of_claude_code(
    used: Used, spent: dict[Session, float]
) -> None:
    used.running.call(used.running.bridge.service.booked)
    told = used.get("boss", by="key").raise_for_status().json()
    reply = used.call("boss", by="key")
    assert [row["key"] for row in told["data"]] == [row.name for row in reply.rows]
    assert {"anna", "bob"} <= {row.name for row in reply.rows}
    in_total = sum(spent.values())
    assert told["total"]["cost_usd"] == reply.total.cost_usd == pytest.approx(in_total, abs=1e-8)
    assert sum(row["cost_usd"] for row in told["data"]) == pytest.approx(in_total, abs=1e-8)
    assert told["total"]["billed_usd"] == told["total"]["unknown_costs"] == 0
    for row, encoded in zip(told["data"], reply.rows, strict=True):
        totals = encoded.totals
        assert row["requests"] == totals.requests > 0
        assert [row[name] for name in TOKENS] == [getattr(totals.tokens, name) for name in TOKENS]
    by_model = used.get("boss", by="model", since="1d").raise_for_status().json()
    assert {row["model"] for row in by_model["data"]} == {"claude-haiku-5-5", "claude-opus-5-5"}
    assert by_model["total"] == told["total"]


def test_its_description_is_that_of_the_replies(used: Used) -> None:
    described = used.http.get("/openapi.json", headers=used.head("anna")).raise_for_status().json()
    described_call = described["paths"]["/v1/usage"]["get"]

    def check(status: str, reply: httpx.Response) -> None:
        schema = described_call["responses"][status]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**described, **schema}).validate(reply.json())

    for by in ("day", "key", "model", "payer"):
        check("200", used.get("boss", by=by))
    check("200", used.get("boss", request_id=used.ids[0]))
    check("default", used.get("anna", by="moon"))
    check("default", used.get("anna", key="bob"))
    check("default", used.get("anna", request_id="req_none"))
    parameters = {each["name"]: each["schema"] for each in described_call["parameters"]}
    assert list(parameters) == ["by", "since", "until", "key", "request_id"]
    checker = jsonschema.FormatChecker()
    given = [
        *[("by", text) for text in ("day", "payer", "Day", "")],
        *[("since", text) for text in ("2026-11-01", "7d", "0d", "2026-13-01", "2026-W45-1", "")],
        *[("until", text) for text in ("2026-11-30", "20261130", "soon")],
        *[("key", text) for text in ("bob", "")],
    ]
    for name, text in given:
        valid = jsonschema.Draft202012Validator(parameters[name], format_checker=checker)
        served = used.get("boss", **{name: text}).status_code
        assert served == (200 if valid.is_valid(text) else 400), (name, text)


def test_a_key_sees_its_own_only(used: Used) -> None:
    for key in ("anna", "bob"):
        (row,) = used.get(key, by="key").json()["data"]
        (encoded,) = used.call(key, by="key").rows
        assert row["key"] == encoded.name == key
        assert used.get(key, by="key", key=key).json()["data"] == [row]
    (row,) = used.get("boss", by="key", key="bob").json()["data"]
    assert row["key"] == "bob"


@pytest.mark.parametrize(
    ("asked", "status", "code", "field"),
    [
        ({"by": "moon"}, 400, grpc.StatusCode.INVALID_ARGUMENT, "by"),
        ({"since": "noon"}, 400, grpc.StatusCode.INVALID_ARGUMENT, "since"),
        ({"until": "2026-02-30"}, 400, grpc.StatusCode.INVALID_ARGUMENT, "until"),
        (
            {"since": "2026-11-02", "until": "2026-11-01"},
            *(400, grpc.StatusCode.INVALID_ARGUMENT, "until"),
        ),
        ({"key": "bob"}, 403, grpc.StatusCode.PERMISSION_DENIED, "key"),
        ({"request_id": "req_none"}, 404, grpc.StatusCode.NOT_FOUND, "request_id"),
    ],
)
def test_errors_are_the_same(
    used: Used, asked: dict[str, str], status: int, code: grpc.StatusCode, field: str
) -> None:
    refused, error = used.get("anna", **asked), used.call("anna", **asked)
    told = refused.json()["error"]
    assert (refused.status_code, told["param"]) == (status, field)
    assert error.code() is code
    assert error.details() == told["message"]


def test_the_request_of_another_key_does_not_exist(used: Used) -> None:
    bobs = used.ids[1]
    assert used.get("anna", request_id=bobs).status_code == 404
    assert used.call("anna", request_id=bobs).code() is grpc.StatusCode.NOT_FOUND
    assert used.get("boss", request_id=bobs).json()["key"] == "bob"


def test_what_only_one_api_can_get_wrong(used: Used) -> None:
    unknown = used.get("anna", sinse="7d")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "sinse")
    both = used.get("anna", request_id=used.ids[0], by="day")
    assert (both.status_code, both.json()["error"]["param"]) == (400, "by")
    twice = used.http.get("/v1/usage?by=day&by=key", headers=used.head("anna"))
    assert (twice.status_code, twice.json()["error"]["param"]) == (400, "by")
    empty = used.call("anna", request_id="")
    assert empty.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(empty)
    assert status is not None
    details = error_details_pb2.BadRequest()
    assert any(each.Unpack(details) for each in status.details)
    assert details.field_violations[0].field == "request_id"


def test_without_keys_everyone_sees_everything(start_bridge: Callable[..., RunningBridge]) -> None:
    running = start_bridge()
    body = {"messages": [{"role": "user", "content": sim(text="Hi.")}]}
    with httpx.Client(base_url=running.url, timeout=PATIENCE, trust_env=False) as http:
        id = http.post("/v1/chat/completions", json=body).headers["x-request-id"]
        assert http.get("/v1/usage", params={"request_id": id}).json()["key"] == ""
        (row,) = http.get("/v1/usage").json()["data"]
    with grpc.insecure_channel(running.target) as channel:
        reply = UsageServiceStub(channel).GetUsage(usage_pb2.GetUsageRequest(), timeout=PATIENCE)
    assert MessageToDict(reply)["rows"][0]["name"] == row["day"]
