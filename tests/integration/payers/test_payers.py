"""Several payers with the real CLI: which credential each upstream call bears, whatever happens."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from bridge.core.access.keys import KeyFile, KeyOwner, KeyScope, KeyUse
from bridge.core.payers.payer import PayerFile
from bridge.server.reloading import reload
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import pool_pb2
from bridge.v1 import pool_pb2_grpc as pool_grpc
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.harness import PATIENCE, LoopThread, sim
from tests.support.paid_server import (
    CREDENTIALS,
    KEY,
    LOGIN,
    TOKEN,
    PaidBridge,
    log_in,
    paid_bridge,
)

MINE = KeyUse(KeyOwner.MINE)
USES = {
    "me": KeyUse(KeyOwner.MINE, ("mine", "team"), overflow=True),
    "ci": KeyUse(KeyOwner.MINE, ("ci",)),
    "out": KeyUse(KeyOwner.MINE, ("out", "team"), overflow=True),
    "old": KeyUse(),
    "anna": KeyUse(KeyOwner.OTHER, ("team",)),
    # By hand: `bridge keys` refuses such lists.
    "ben": KeyUse(KeyOwner.OTHER, ("mine", "ci", "team")),
    "carl": KeyUse(KeyOwner.OTHER, ("mine",)),
}


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread) -> Iterator[PaidBridge]:
    home = tmp_path_factory.mktemp("paid")
    payers = ("mine", "ci", "out", "team")
    with paid_bridge(home, loop_thread, payers, USES, bridge_max_processes=8) as paid:
        yield paid


# Each sends one request of a key by one API; an error is raised or is the response's status.


def chat(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    return paid.ask(key, text)


def stream(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    return paid.ask(key, text, stream=True)


def completions(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    return paid.post(key, "/v1/completions", {"model": "default", "prompt": text})


def responses(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    return paid.post(key, "/v1/responses", {"model": "default", "input": text})


def background(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    body = {"model": "default", "input": text, "background": True, "stream": True}
    return paid.post(key, "/v1/responses", body)


def later(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    """A background response that is streamed by another reader, once it has ended."""
    body = {"model": "default", "input": text, "background": True}
    begun = paid.post(key, "/v1/responses", body)
    if begun.status_code != 200:
        return begun
    url = f"{paid.bridge.url}/v1/responses/{begun.json()['id']}"
    headers = {"authorization": f"Bearer {paid.keys[key]}"}
    end = time.monotonic() + PATIENCE
    while httpx.get(url, headers=headers, timeout=PATIENCE).json()["status"] != "completed":
        assert time.monotonic() < end
        time.sleep(0.02)
    whole = httpx.get(url, headers=headers, timeout=PATIENCE)
    read = httpx.get(url, headers=headers, params={"stream": "true"}, timeout=PATIENCE)
    assert read.headers["x-bridge-payer"] == whole.headers["x-bridge-payer"]
    return read


def stored(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    """A response that goes on from a stored one."""
    first = responses(paid, key, text)
    if first.status_code != 200:
        return first
    previous = first.json()["id"]
    body = {"model": "default", "input": text, "previous_response_id": previous}
    return paid.post(key, "/v1/responses", body)


def conversation(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    made = paid.post(key, "/v1/conversations", {})
    body = {"model": "default", "input": text, "conversation": made.json()["id"]}
    return paid.post(key, "/v1/responses", body)


def compacting(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    return paid.post(key, "/v1/responses/compact", {"model": "default", "input": text})


def counting_input(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    return paid.post(key, "/v1/responses/input_tokens", {"model": "default", "input": text})


def by_x_api_key(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    turns = [{"role": "user", "content": text}]
    body = {"model": "default", "max_tokens": 99, "messages": turns}
    url, headers = f"{paid.bridge.url}/v1/messages", {"x-api-key": paid.keys[key]}
    return httpx.post(url, json=body, headers=headers, timeout=PATIENCE)


def repeated(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    """The same request once more, by its own id."""
    body = {"model": "default", "input": text, "background": True}
    headers = {"authorization": f"Bearer {paid.keys[key]}", "idempotency-key": uuid.uuid4().hex}
    url = f"{paid.bridge.url}/v1/responses"
    first = httpx.post(url, json=body, headers=headers, timeout=PATIENCE)
    second = httpx.post(url, json=body, headers=headers, timeout=PATIENCE)
    assert first.json().get("id") == second.json().get("id")
    return second


def anthropic(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    turns = [{"role": "user", "content": text}]
    return paid.post(key, "/v1/messages", {"model": "default", "max_tokens": 99, "messages": turns})


def counting(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    turns = [{"role": "user", "content": text}]
    return paid.post(key, "/v1/messages/count_tokens", {"model": "default", "messages": turns})


def spec(text: str) -> pb.CompletionSpec:
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])
    return pb.CompletionSpec(model="default", messages=[message])


def over_grpc(
    paid: PaidBridge, key: str, call: Callable[[CompletionServiceStub, Any], Any]
) -> httpx.Response:
    """The outcome of a call as that of an HTTP request."""
    metadata = (("authorization", f"Bearer {paid.keys[key]}"),)
    with grpc.insecure_channel(paid.bridge.target) as channel:
        try:
            payer = call(CompletionServiceStub(channel), metadata)
        except grpc.RpcError as error:
            code: Any = error
            status = 403 if code.code() is grpc.StatusCode.PERMISSION_DENIED else 500
            return httpx.Response(status, text=str(code.details()))
    return httpx.Response(200, headers={"x-bridge-payer": payer} if payer else {})


def complete(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    def call(stub: CompletionServiceStub, metadata: Any) -> str:
        request = pb.CompleteRequest(completion=spec(text))
        sent = list(stub.Complete(request, metadata=metadata))
        return next(r.event.started.payer for r in sent if r.event.HasField("started"))

    return over_grpc(paid, key, call)


def create(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    def call(stub: CompletionServiceStub, metadata: Any) -> str:
        request = pb.CreateCompletionRequest(completion=spec(text))
        return stub.CreateCompletion(request, metadata=metadata, timeout=PATIENCE).payer

    return over_grpc(paid, key, call)


def count(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    def call(stub: CompletionServiceStub, metadata: Any) -> str:
        request = pb.CountTokensRequest(completion=spec(text))
        assert stub.CountTokens(request, metadata=metadata, timeout=PATIENCE).input_tokens > 0
        return ""

    return over_grpc(paid, key, call)


def converse(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    """Two turns of a conversation; a turn that fails ends it with its error."""

    def call(stub: CompletionServiceStub, metadata: Any) -> str:
        sent: queue.SimpleQueue[pb.ConverseRequest | None] = queue.SimpleQueue()
        completion = pb.CompletionSpec(model="default")
        sent.put(pb.ConverseRequest(open=pb.OpenConversation(completion=completion)))
        message = pb.UserMessage(parts=[pb.Part(text=text)])
        sent.put(pb.ConverseRequest(message=message))
        received = stub.Converse(iter(sent.get, None), metadata=metadata, timeout=PATIENCE)
        payers = []
        for response in received:
            if response.HasField("turn_failed"):
                sent.put(None)
                raise TurnFailed(response.turn_failed)
            if response.event.HasField("started"):
                payers.append(response.event.started.payer)
            if response.event.HasField("finished"):
                sent.put(None if len(payers) > 1 else pb.ConverseRequest(message=message))
        (payer,) = set(payers)
        return payer

    try:
        return over_grpc(paid, key, call)
    except TurnFailed as failed:
        return httpx.Response(403 if failed.code == 7 else 500, text=failed.message)


class TurnFailed(Exception):
    """A turn of a conversation has failed."""

    def __init__(self, status: pb.ErrorStatus) -> None:
        super().__init__(status.message)
        self.code, self.message = status.code, status.message


def detached(paid: PaidBridge, key: str, text: str) -> httpx.Response:
    """An answer that is attached to, by id, once it is complete."""

    def call(stub: CompletionServiceStub, metadata: Any) -> str:
        id = uuid.uuid4().hex
        request = pb.CompleteRequest(completion=spec(text), detached=True, request_id=id)
        list(stub.Complete(request, metadata=metadata, timeout=PATIENCE))
        asked = pb.AttachCompletionRequest(request_id=id)
        events = list(stub.AttachCompletion(asked, metadata=metadata, timeout=PATIENCE))
        return next(e.event.started.payer for e in events if e.event.HasField("started"))

    return over_grpc(paid, key, call)


WAYS = [
    *(chat, stream, completions, responses, background, anthropic, counting),
    *(later, stored, conversation, compacting, counting_input, by_x_api_key, repeated),
    *(complete, create, converse, detached, count),
]
COUNTS = (counting, counting_input, count)
EARLY = (background, repeated)
"""These send their headers before they are answered."""


@pytest.mark.parametrize("way", WAYS)
def test_a_request_of_another_never_reaches_a_login(
    paid: PaidBridge, way: Callable[[PaidBridge, str, str], httpx.Response]
) -> None:
    for key in ("anna", "ben"):
        mark = f"of {key} by {way.__name__}"
        response = way(paid, key, f"{mark} {sim(text='hi')}")
        assert response.status_code == 200, response.text
        paid.bridge.call(paid.bridge.bridge.service.booked)
        if way not in COUNTS:
            assert paid.credentials(mark) == {KEY}
        if way not in (*COUNTS, *EARLY):
            assert response.headers["x-bridge-payer"] == "team"
    before = len(paid.simulator.ledger.exchanges())
    refused = way(paid, "carl", sim(text="hi"))
    assert refused.status_code == 403, refused.text
    assert "serves its owner only" in refused.text
    assert "bridge keys edit" in refused.text
    assert len(paid.simulator.ledger.exchanges()) == before


@pytest.mark.parametrize(
    ("key", "payer"), [("me", "mine"), ("old", "mine"), ("ci", "ci"), ("anna", "team")]
)
def test_each_key_is_served_by_its_payer(paid: PaidBridge, key: str, payer: str) -> None:
    mark = f"who serves {key}"
    response = paid.ask(key, f"{mark} {sim(text='hi')}")
    assert response.headers["x-bridge-payer"] == payer
    assert paid.credentials(mark) == {CREDENTIALS[payer]}
    assert paid.records()[-1]["payer"] == payer
    assert paid.records()[-1]["billed"] is (payer == "team")


def test_an_answer_goes_on_with_the_payer_of_its_key(paid: PaidBridge) -> None:
    """Continued in the same process, and replayed after it is gone."""
    first = f"goes on {sim(text='one')}"
    turns: list[dict[str, str]] = [{"role": "user", "content": first}]
    for text in ("two", "three"):
        assert paid.ask("ben", "", messages=turns).status_code == 200
        turns += [
            {"role": "assistant", "content": "one" if text == "two" else "two"},
            {"role": "user", "content": sim(text=text)},
        ]
        paid.bridge.call(_forget(paid))
    assert paid.ask("ben", "", messages=turns).json()["choices"][0]["message"]["content"] == "three"
    assert paid.credentials("goes on") == {KEY}


def test_a_key_that_becomes_someone_elses_leaves_the_login_at_once(paid: PaidBridge) -> None:
    """Also in a conversation that is held open there, and with a response that is stored."""
    file = KeyFile(paid.home / "state" / "keys.json")
    turned = PaidBridge(
        paid.bridge, paid.simulator, paid.home, {"turned": file.add("turned", use=MINE)}
    )
    turns: list[dict[str, str]] = [{"role": "user", "content": f"to turn {sim(text='one')}"}]
    assert turned.ask("turned", "", messages=turns).headers["x-bridge-payer"] == "mine"
    previous = responses(turned, "turned", f"to turn {sim(text='one')}").json()["id"]
    assert paid.credentials("to turn") == {LOGIN}

    def mark(use: KeyUse) -> None:
        file.change(lambda ring: ring.changed("turned", lambda key: replace(key, use=use)))

    mark(KeyUse(KeyOwner.OTHER))
    before = len(paid.simulator.ledger.exchanges())
    turns += [
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": f"has turned {sim(text='two')}"},
    ]
    continued = {"input": f"has turned {sim(text='two')}", "previous_response_id": previous}
    assert turned.ask("turned", "", messages=turns).status_code == 403
    assert turned.post("turned", "/v1/responses", continued).status_code == 403
    assert len(paid.simulator.ledger.exchanges()) == before
    mark(KeyUse(KeyOwner.OTHER, ("team",)))
    assert turned.ask("turned", "", messages=turns).headers["x-bridge-payer"] == "team"
    assert turned.post("turned", "/v1/responses", continued).status_code == 200
    assert paid.credentials("has turned") == {KEY}


def _forget(paid: PaidBridge) -> Callable[[], Any]:
    async def forget() -> None:
        paid.bridge.bridge.service.forget_caller("ben")

    return forget


def test_the_answer_of_the_owner_does_not_exist_for_another(paid: PaidBridge) -> None:
    """What a login has answered is not handed out either."""
    id = uuid.uuid4().hex

    def ask(stub: CompletionServiceStub, metadata: Any) -> str:
        request = pb.CompleteRequest(
            completion=spec(f"of the owner {sim(text='mine')}"), detached=True, request_id=id
        )
        list(stub.Complete(request, metadata=metadata, timeout=PATIENCE))
        return ""

    def attach(stub: CompletionServiceStub, metadata: Any) -> str:
        request = pb.AttachCompletionRequest(request_id=id)
        return f"{len(list(stub.AttachCompletion(request, metadata=metadata)))} events"

    assert over_grpc(paid, "me", ask).status_code == 200
    assert paid.credentials("of the owner") == {LOGIN}
    assert over_grpc(paid, "me", attach).status_code == 200
    for key in ("anna", "ben", "carl"):
        refused = over_grpc(paid, key, attach)
        assert refused.status_code == 500
        assert "no detached answer" in refused.text


def test_a_payer_that_is_logged_out_is_left_to_the_next_one_and_shown(paid: PaidBridge) -> None:
    mark = "of a payer that is out"
    response = paid.ask("out", f"{mark} {sim(text='hi')}")
    assert response.headers["x-bridge-payer"] == "team"
    assert paid.credentials(mark) == {KEY}
    health = paid.health()
    assert health["status"] == "ok"
    (out,) = (payer for payer in health["payers"] if payer["name"] == "out")
    assert (out["status"], out["kind"]) == ("not_logged_in", "login")
    assert "bridge login" in health["detail"]


def test_the_state_of_each_payer_is_shown_by_every_api(paid: PaidBridge) -> None:
    paid.ask("anna", sim(text="hi"))
    kinds = {"mine": "login", "ci": "token", "out": "login", "team": "api-key"}
    assert {p["name"]: p["kind"] for p in paid.health()["payers"]} == kinds
    file = KeyFile(paid.home / "state" / "keys.json")
    metadata = (("authorization", f"Bearer {file.add('admin', KeyScope.ADMIN, use=MINE)}"),)
    with grpc.insecure_channel(paid.bridge.target) as channel:
        pool = (
            pool_grpc.PoolServiceStub(channel)
            .GetPool(pool_pb2.GetPoolRequest(), metadata=metadata, timeout=PATIENCE)
            .pool
        )
    assert [payer.name for payer in pool.payers] == list(kinds)
    team = pool.payers[3]
    assert (team.kind, team.status) == (pool_pb2.Payer.KIND_API_KEY, pool_pb2.Pool.STATUS_OK)
    assert team.answered > 0
    state = paid.bridge.bridge.service.pool_state()
    assert sum(sum(p.health.processes.values()) for p in state.payers) <= state.max_processes
    text = paid.bridge.bridge.metrics.render()[0].decode()
    assert 'bridge_payer_serving{payer="mine"} 1.0' in text
    assert 'bridge_payer_requests_total{outcome="stop",payer="team"}' in text


def test_the_models_are_those_of_the_payers_of_the_key(paid: PaidBridge) -> None:
    def listed(key: str) -> list[str]:
        headers = {"authorization": f"Bearer {paid.keys[key]}"}
        response = httpx.get(f"{paid.bridge.url}/v1/models", headers=headers, timeout=PATIENCE)
        return [model["id"] for model in response.json().get("data", ())]

    assert {"opus", "haiku"} <= set(listed("anna"))
    assert listed("carl") == []


# Faults: each has payers of its own, since what is learnt of them lasts.


def test_a_payer_limited_for_one_model_still_serves_the_others(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    uses = {"me": USES["me"], "strict": MINE}
    with paid_bridge(tmp_path, loop_thread, ("mine", "team"), uses) as paid:
        accounts = {LOGIN: {"limited": ["opus"]}, KEY: "everything"}
        paid.simulator.accounts.load({"accounts": accounts})
        served = [
            paid.ask("me", sim(text="hi"), model=model).headers["x-bridge-payer"]
            for model in ("opus", "haiku", "opus", "haiku")
        ]
        assert served == ["team", "mine", "team", "mine"]
        opus = [e.credential for e in paid.upstream("") if "opus" in e.model]
        assert opus.count(LOGIN) == 1, "it is left out until its limit resets"
        refused = paid.ask("strict", sim(text="hi"), model="opus")
        assert refused.status_code == 429, "nothing is billed unasked"
        (mine, _) = paid.health()["payers"]
        (limited,) = mine["limited"]
        assert (limited["reason"], limited["until"] > time.time() + 86_400) == ("PLAN_LIMIT", True)
        assert "opus" in limited["model"]


def test_a_login_revoked_in_mid_answer_ends_the_answer_and_the_next_one_is_billed(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    uses = {"ci": KeyUse(KeyOwner.MINE, ("ci", "team"), overflow=True)}
    with paid_bridge(tmp_path, loop_thread, ("ci", "team"), uses) as paid:
        cut = paid.ask(
            "ci", sim(text="Some text of many words", error_event="expired", error_after=2)
        )
        assert cut.status_code >= 400
        paid.simulator.accounts.load({"accounts": {KEY: "everything"}})
        mark = "after it was revoked"
        answered = paid.ask("ci", f"{mark} {sim(text='hi')}")
        assert answered.headers["x-bridge-payer"] == "team"
        assert {e.credential for e in paid.upstream(mark) if e.status == 200} == {KEY}
        assert paid.credentials(mark) <= {TOKEN, KEY}
        assert paid.health()["status"] == "ok"


def test_a_login_whose_folder_is_deleted_while_it_is_used_is_left_to_the_next_one(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    with paid_bridge(tmp_path, loop_thread, ("mine", "team"), {"me": USES["me"]}) as paid:
        assert paid.ask("me", sim(text="hi")).headers["x-bridge-payer"] == "mine"
        # At once: its processes write there.
        (tmp_path / "mine").rename(tmp_path / "gone")

        async def end_processes() -> None:
            for session in paid.bridge.bridge.service.engine("mine").pool.sessions():
                session.kill()

        paid.bridge.call(end_processes)
        mark = "after it was deleted"
        answered = paid.ask("me", f"{mark} {sim(text='hi')}")
        assert answered.headers["x-bridge-payer"] == "team", answered.text
        assert paid.credentials(mark) == {KEY}


def test_without_another_payer_a_deleted_login_is_the_error_and_a_new_one_is_used(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    with paid_bridge(tmp_path, loop_thread, ("mine", "team"), {"me": MINE}) as paid:
        (tmp_path / "mine").rename(tmp_path / "gone")

        async def end_processes() -> None:
            for session in paid.bridge.bridge.service.engine("mine").pool.sessions():
                session.kill()

        paid.bridge.call(end_processes)
        refused = paid.ask("me", sim(text="hi"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            503,
            "claude_not_logged_in",
        )
        assert paid.upstream("") == [], "nothing is billed unasked"
        assert paid.health()["status"] == "ok", "the other payer can serve"
        log_in(tmp_path / "mine")
        end = time.monotonic() + PATIENCE
        while (again := paid.ask("me", sim(text="hi"))).status_code != 200:
            assert time.monotonic() < end, again.text
            time.sleep(0.5)
        assert again.headers["x-bridge-payer"] == "mine"


def test_a_payer_that_is_removed_from_the_list_serves_until_the_restart(
    tmp_path: Path, loop_thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    uses = {"anna": USES["anna"]}
    state = tmp_path / "state"
    with paid_bridge(tmp_path, loop_thread, ("mine", "team"), uses) as paid:
        PayerFile(state).remove("team")
        assert paid.ask("anna", sim(text="hi")).headers["x-bridge-payer"] == "team"
        with caplog.at_level("WARNING"):
            reload(paid.bridge.bridge, paid.bridge.settings)
        assert "the list of payers has changed; restart" in caplog.text
        paid.bridge.stop()
        paid.bridge.start()
        refused = paid.ask("anna", sim(text="hi"))
        assert refused.status_code == 403
        assert "names the payer team, which this server does not have" in refused.text
        assert "restart the server" in refused.text


def test_a_login_is_shared_only_if_the_operator_says_so(
    tmp_path: Path, loop_thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    uses = {"carl": USES["carl"], "old": USES["old"]}
    with paid_bridge(tmp_path, loop_thread, ("mine",), uses, bridge_share_login=True) as paid:
        assert paid.ask("carl", sim(text="hi")).headers["x-bridge-payer"] == "mine"
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("BRIDGE_SHARE_LOGIN=1" in line for line in said)
    assert any("count as yours: old" in line for line in said)
