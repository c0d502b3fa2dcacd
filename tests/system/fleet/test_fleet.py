"""A fleet in use: what its clients see of it, and what they do not see."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from bridge.core.contract.request import Message
from tests.support.front_ends import KINDS, Apis
from tests.support.harness import PATIENCE, assistant, sim, user
from tests.support.replies import Failure
from tests.support.waiting import at_once
from tests.system.fleet.asking import (
    RESPONSES,
    add_key,
    ask_in,
    filled,
    new_mark,
    once_each,
    respond,
    served_by,
    status,
    text_of,
    without_redis,
)
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.load import load
from tests.system.fleet.programs import eventually
from tests.system.fleet.replica import Replica

both_apis = pytest.mark.parametrize("kind", ["stream", "grpc"])


@both_apis
async def test_tokens_arrive_while_the_answer_runs_and_a_client_that_leaves_ends_it(
    fleet: Fleet, apis: Apis, kind: str
) -> None:
    mark = new_mark()
    call = apis.call(kind, sim(endless=True, delay_ms=20, note=mark))
    await call.until_text()
    assert [one.ended for one in fleet.upstream(mark)] == [None]
    await call.leave()
    await left(fleet, mark)


async def left(fleet: Fleet, mark: str) -> None:
    """Wait until the replica has ended its call of the model."""
    await fleet.simulator.ledger.wait_for_async(
        lambda all: any(one.contains(mark) and one.ended == "client_closed" for one in all),
        PATIENCE,
    )


@both_apis
async def test_a_deadline_reaches_the_replica(fleet: Fleet, apis: Apis, kind: str) -> None:
    mark = new_mark()
    # On a slow machine the first of these may pass before the model is asked.
    for seconds in (1.0, 5.0, 25.0):
        failure = await apis.ask(kind, sim(hang=True, note=mark), limits={"total": seconds})
        assert isinstance(failure, Failure)
        assert failure.status in (504, "DEADLINE_EXCEEDED")
        if fleet.upstream(mark):
            break
    await left(fleet, mark)


async def test_a_replica_that_is_killed_fails_only_what_it_was_answering(
    fleet: Fleet, apis: Apis
) -> None:
    victim = fleet["ben"]
    async with load(apis) as requests:
        await requests.more(8)
        victim.program.kill()
        await asyncio.to_thread(fleet.envoy.wait_for, fleet.without("ben"))
        after = await requests.more(8)
        assert [one.failure for one in after if one.failure] == []
        await asyncio.to_thread(victim.start)
        await asyncio.to_thread(fleet.envoy.wait_for, fleet.replicas)
    once_each(fleet, requests)
    for one in requests.failed:
        # It may have waited there still.
        assert {call.credential for call in fleet.upstream(one.mark)} <= {victim.token}, one


async def test_a_replica_that_stops_fails_nothing(fleet: Fleet, apis: Apis) -> None:
    victim = fleet["anna"]
    async with load(apis) as requests:
        await requests.more(8)
        victim.program.signal(signal.SIGTERM)
        await asyncio.to_thread(fleet.envoy.wait_for, fleet.without("anna"))
        assert await asyncio.to_thread(victim.program.ended) == 0
        await requests.more(4)
    assert requests.failed == []
    once_each(fleet, requests)


async def test_a_replica_that_is_logged_out_is_avoided_until_its_login_is_back(
    fleet: Fleet, apis: Apis
) -> None:
    fleet.accounts(ben={"failure": "expired"})
    assert await asyncio.to_thread(status, fleet["ben"]) == 503
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.without("ben"))
    await served_by(fleet, apis, "anna", "cleo")
    fleet.accounts()
    fleet["ben"].log_in()
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.replicas)
    assert await asyncio.to_thread(status, fleet["ben"]) == 200


async def test_a_conversation_stays_with_its_replica_over_both_apis_while_that_lives(
    fleet: Fleet, apis: Apis
) -> None:
    conversation = new_mark()
    messages: list[Message] = []

    async def turn(kind: str) -> Replica:
        mark = new_mark()
        messages.append(user(sim(text=f"Answer {len(messages)}.", note=mark)))
        reply = await ask_in(apis, conversation, kind, *messages).finish()
        assert reply.outcome == f"Answer {len(messages) - 1}."
        messages.append(assistant(reply.text))
        return fleet.serving(mark)

    home = await turn("stream")
    for kind in KINDS:
        assert await turn(kind) is home
    # Who has left many conversations keeps a process from the second turn of one.
    eventually(lambda: sources(home)[-2:] == ["continued"] * 2, lambda: str(sources(home)[-4:]))
    home.program.kill()
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.without(home.name))
    other = await turn("grpc")
    assert other is not home
    # And there it stays.
    assert await turn("stream") is other


def sources(replica: Replica) -> list[str]:
    """How the requests of a replica got their processes, oldest first."""
    return [record["session"] for record in replica.records()]


async def test_what_a_full_replica_refuses_goes_to_another(fleet: Fleet, apis: Apis) -> None:
    conversation, mark = new_mark(), new_mark()
    first = ask_in(apis, conversation, "whole", user(sim(text="Here.", note=mark)))
    assert (await first.finish()).outcome == "Here."
    home = fleet.serving(mark)
    before = fleet.envoy.counts("upstream_rq_retry")
    async with filled(home):
        for kind in KINDS:
            mark = new_mark()
            call = ask_in(apis, conversation, kind, user(sim(text="There.", note=mark)))
            assert (await call.finish()).outcome == "There."
            assert fleet.serving(mark) is not home
    assert fleet.envoy.counts("upstream_rq_retry") >= before + len(KINDS)


def test_a_response_is_continued_at_another_replica(fleet: Fleet) -> None:
    mark = new_mark()
    first = respond(fleet["anna"], sim(text="Blue.", note=mark))
    second = respond(fleet["ben"], sim(text="Red."), previous_response_id=first["id"])
    assert text_of(second) == "Red."
    last = fleet.upstream(mark)[-1]
    assert last.credential == fleet["ben"].token
    assert [role for role in last.roles if role != "system"] == ["user", "assistant", "user"]
    assert last.contains("Blue.")
    assert fleet["cleo"].ask(f"{RESPONSES}/{first['id']}").json()["id"] == first["id"]


async def test_a_background_response_is_found_on_the_replica_that_has_it(
    fleet: Fleet, apis: Apis
) -> None:
    endless = sim(endless=True, delay_ms=20)
    running = respond(fleet["anna"], endless, background=True)
    path = f"{RESPONSES}/{running['id']}"
    eventually(
        lambda: fleet["anna"].ask(path).json()["status"] == "in_progress",
        lambda: fleet["anna"].ask(path).text,
    )
    assert fleet["ben"].ask(path).json()["status"] in ("queued", "in_progress")
    for refused in (
        fleet["ben"].ask(f"{path}?stream=true"),
        fleet["ben"].ask(f"{path}/cancel", {}),
    ):
        assert refused.status_code == 409, refused.text
        assert refused.headers["x-bridge-found-on"] == "anna"
        assert "anna" in refused.json()["error"]["message"]
    # The balancer asks the others.
    cancelled = await apis.http.post(f"{path}/cancel", json={})
    assert cancelled.json()["status"] == "cancelled"
    assert cancelled.headers["x-bridge-replica"] == "anna"
    eventually(
        lambda: fleet["ben"].ask(path).json().get("status") == "cancelled",
        lambda: fleet["ben"].ask(path).text,
    )


def test_an_id_of_a_request_is_claimed_once_over_the_fleet(fleet: Fleet) -> None:
    mark = new_mark()
    body = {"model": "default", "input": sim(text="Once.", note=mark), "background": True}
    answers = [one.ask(RESPONSES, body, **{"idempotency-key": mark}) for one in fleet.replicas]
    assert [answer.status_code for answer in answers] == [200, 409, 409]
    eventually(
        lambda: [call.ended for call in fleet.upstream(mark)] == ["completed"],
        lambda: str(fleet.upstream(mark)),
    )


def test_a_key_and_its_limits_are_of_the_whole_fleet_until_it_is_revoked(fleet: Fleet) -> None:
    name, secret = add_key(fleet, "--per-minute", "4")
    asking = [lambda one=replica: status(one, secret) for replica in fleet.replicas * 3]
    assert Counter(at_once(*asking)) == {200: 4, 429: 5}
    fleet["ben"].run("keys", "revoke", name)
    for replica in fleet.replicas:
        replica.takes(secret, wanted=401)


async def test_a_fleet_serves_without_redis_and_shares_again_when_it_is_back(
    fleet: Fleet, apis: Apis
) -> None:
    await without_redis(fleet, apis, fleet.redis.kill, fleet.redis.start)
