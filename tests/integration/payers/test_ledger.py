"""What several payers have spent: the ledger's sums, overflow, and a process that is killed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from bridge.core.access.keys import KeyFile, KeyOwner, KeyScope, KeyUse
from bridge.core.claude.session import Session
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import usage_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.usage_pb2_grpc import UsageServiceStub
from tests.support.harness import PATIENCE, LoopThread, sim
from tests.support.paid_server import KEY, LOGIN, PaidBridge, paid_bridge

MINE = KeyUse(KeyOwner.MINE)
USES = {
    "me": KeyUse(KeyOwner.MINE, ("mine", "team"), overflow=True),
    "ci": KeyUse(KeyOwner.MINE, ("ci",)),
    "anna": KeyUse(KeyOwner.OTHER, ("team",)),
}
COST = {"x-bridge-include-cost": "true"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}


@dataclass
class Spent:
    """What Claude Code says in total of each process, with the payer that it belongs to."""

    payers: dict[Session, str]
    totals: dict[Session, float]

    def by_payer(self) -> Mapping[str, float]:
        sums: defaultdict[str, float] = defaultdict(float)
        for session, usd in self.totals.items():
            sums[self.payers[session]] += usd
        return sums


@pytest.fixture(scope="module")
def spent() -> Iterator[Spent]:
    seen = Spent({}, {})
    spawn, book = Session.spawn, Session.book

    async def spawned(launcher: Any, **options: Any) -> Session:
        session = await spawn(launcher, **options)
        # Each payer's processes have a folder of its name.
        seen.payers[session] = Path(launcher.environment["CLAUDE_CONFIG_DIR"]).name
        return session

    async def booked(session: Session) -> Any:
        cost = await book(session)
        total = await session._spent()
        if total is not None:
            seen.totals[session] = total.usd
        return cost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "spawn", spawned)
        patch.setattr(Session, "book", booked)
        yield seen


@pytest.fixture(scope="module")
def paid(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread, spent: Spent
) -> Iterator[PaidBridge]:
    home = tmp_path_factory.mktemp("paid")
    accounts = {LOGIN: {"limited": ["opus"]}, "sk-ant-oat01-ci": "everything", KEY: "everything"}
    payers = ("mine", "ci", "team")
    with paid_bridge(
        home, loop_thread, payers, USES, accounts=accounts, bridge_max_processes=8
    ) as paid:
        file = KeyFile(paid.home / "state" / "keys.json")
        boss = file.add("boss", KeyScope.ADMIN, use=MINE)
        yield PaidBridge(paid.bridge, paid.simulator, home, {**paid.keys, "boss": boss})


def usage(paid: PaidBridge, key: str, **asked: str) -> Any:
    paid.bridge.call(paid.bridge.bridge.service.booked)
    headers = {"authorization": f"Bearer {paid.keys[key]}"}
    url = f"{paid.bridge.url}/v1/usage"
    reply = httpx.get(url, params=asked, headers=headers, timeout=PATIENCE, trust_env=False)
    return reply.raise_for_status().json()


def metadata(paid: PaidBridge, key: str) -> Any:
    return (("authorization", f"Bearer {paid.keys[key]}"),)


# Each asks for the cost, and returns it with the request's id.
Way = Callable[[PaidBridge, str, str], tuple[dict[str, Any], str]]


def over_http(path: str, body: Mapping[str, Any]) -> Way:
    def ask(paid: PaidBridge, key: str, model: str) -> tuple[dict[str, Any], str]:
        headers = {"authorization": f"Bearer {paid.keys[key]}", **COST}
        url = f"{paid.bridge.url}{path}"
        asked = {"model": model, **body}
        reply = httpx.post(url, json=asked, headers=headers, timeout=PATIENCE, trust_env=False)
        id = reply.raise_for_status().headers.get("x-request-id") or reply.headers["request-id"]
        return reply.json()["usage"]["cost"], id

    return ask


def over_grpc(paid: PaidBridge, key: str, model: str) -> tuple[dict[str, Any], str]:
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=sim(text="Hi."))])
    spec = pb.CompletionSpec(model=model, messages=[message], include_cost=True)
    request = pb.CreateCompletionRequest(completion=spec)
    with grpc.insecure_channel(paid.bridge.target) as channel:
        reply = CompletionServiceStub(channel).CreateCompletion(
            request, metadata=metadata(paid, key), timeout=PATIENCE
        )
    cost = reply.cost
    usd = cost.usd if cost.HasField("usd") else None
    return {"usd": usd, "billed": cost.billed, "payer": cost.payer}, reply.request_id


TURNS = [{"role": "user", "content": sim(text="Hi.")}]
CALL = [{"role": "user", "content": sim(tools=[{"name": "f"}])}]
WAYS: dict[str, Way] = {
    "chat": over_http("/v1/chat/completions", {"messages": TURNS}),
    "responses": over_http("/v1/responses", {"input": sim(text="Hi.")}),
    "messages": over_http("/v1/messages", {"messages": TURNS, "max_tokens": 99}),
    "a call": over_http("/v1/messages", {"messages": CALL, "max_tokens": 99, "tools": [TOOL]}),
    "grpc": over_grpc,
}


@pytest.mark.parametrize("way", WAYS)
def test_after_an_overflow_the_reply_has_the_cost_and_the_ledger_the_same(
    paid: PaidBridge, way: str
) -> None:
    # Each time the login is asked first.
    paid.bridge.bridge.service.marks._marks.clear()
    cost, id = WAYS[way](paid, "me", "opus")
    assert {e.credential for e in paid.upstream("") if e.status == 429} == {LOGIN}
    assert (cost["payer"], cost["billed"]) == ("team", True)
    assert cost["usd"] > 0
    told = usage(paid, "me", request_id=id)
    assert (told["cost_usd"], told["payer"], told["billed"]) == (cost["usd"], "team", True)
    with grpc.insecure_channel(paid.bridge.target) as channel:
        reply = UsageServiceStub(channel).GetRequestUsage(
            usage_pb2.GetRequestUsageRequest(request_id=id),
            metadata=metadata(paid, "me"),
            timeout=PATIENCE,
        )
    assert (reply.cost.usd, reply.cost.payer, reply.cost.billed) == (cost["usd"], "team", True)


def test_the_sums_of_payers_are_those_of_claude_code(paid: PaidBridge, spent: Spent) -> None:
    for key, model in (("me", "opus"), ("me", "haiku"), ("ci", "haiku"), ("anna", "opus")):
        for way in WAYS.values():
            way(paid, key, model)
    told = usage(paid, "boss", by="payer")
    sums = {row["payer"]: row for row in told["data"]}
    in_total = spent.by_payer()
    assert set(sums) == {"mine", "ci", "team"} == set(in_total)
    for payer, row in sums.items():
        assert row["cost_usd"] == pytest.approx(in_total[payer], abs=1e-8)
        assert row["billed_usd"] == (row["cost_usd"] if payer == "team" else 0)
        assert row["unknown_costs"] == 0
    assert told["total"]["cost_usd"] == pytest.approx(sum(in_total.values()), abs=1e-8)
    own = usage(paid, "anna", by="payer")
    assert [row["payer"] for row in own["data"]] == ["team"]


def test_what_a_killed_process_of_a_payer_spent_is_unknown(paid: PaidBridge) -> None:
    before = usage(paid, "boss", by="payer")
    body = {"messages": [{"role": "user", "content": sim(endless=True, delay_ms=5)}]}
    headers = {"authorization": f"Bearer {paid.keys['anna']}", **COST}
    url = f"{paid.bridge.url}/v1/chat/completions"
    asked = {"stream": True, "model": "haiku", **body}

    async def kill() -> None:
        for session in paid.bridge.bridge.service.engine("team").pool.sessions():
            session.kill()

    with httpx.stream("POST", url, json=asked, headers=headers, timeout=PATIENCE) as reply:
        id = reply.headers["x-request-id"]
        lines = reply.iter_lines()
        while '"content":"w3' not in next(lines).replace(": ", ":").replace('" ', '"'):
            pass
        paid.bridge.call(kill)
        assert "error" in "".join(lines)
    told = usage(paid, "anna", request_id=id)
    assert (told["cost_usd"], told["payer"]) == (None, "team")
    assert told["error"] == "CLAUDE_PROCESS_ERROR"
    after = usage(paid, "boss", by="payer")
    unknown = {row["payer"]: row["unknown_costs"] for row in after["data"]}
    assert unknown == {"mine": 0, "ci": 0, "team": 1}
    assert after["total"]["cost_usd"] == before["total"]["cost_usd"]
