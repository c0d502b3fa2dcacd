"""A fleet in use: what its clients see of it, and what they do not see."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from tests.support.front_ends import Apis
from tests.support.harness import PATIENCE, sim
from tests.support.replies import Failure
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.load import Load, load

both_apis = pytest.mark.parametrize("kind", ["stream", "grpc"])


@both_apis
async def test_tokens_arrive_while_the_answer_runs_and_a_client_that_leaves_ends_it(
    fleet: Fleet, apis: Apis, kind: str
) -> None:
    mark = uuid.uuid4().hex
    call = apis.call(kind, sim(endless=True, delay_ms=20, note=mark))
    await call.until_text()
    assert [one.ended for one in fleet.upstream(mark)] == [None]
    await call.leave()
    await fleet.simulator.ledger.wait_for_async(
        lambda all: any(one.contains(mark) and one.ended == "client_closed" for one in all),
        PATIENCE,
    )


@both_apis
async def test_a_deadline_reaches_the_replica(fleet: Fleet, apis: Apis, kind: str) -> None:
    mark = uuid.uuid4().hex
    silent = sim(hang=True, note=mark)
    failure = await apis.ask(kind, silent, limits={"total": 1.0})
    assert isinstance(failure, Failure)
    assert failure.status in (504, "DEADLINE_EXCEEDED")
    await fleet.simulator.ledger.wait_for_async(
        lambda all: any(one.contains(mark) and one.ended == "client_closed" for one in all),
        PATIENCE,
    )


async def test_a_replica_that_is_killed_fails_only_what_it_was_answering(
    fleet: Fleet, apis: Apis
) -> None:
    victim = fleet["ben"]
    async with load(apis, callers=4) as requests:
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


def once_each(fleet: Fleet, requests: Load) -> None:
    """See that no request has been sent to the model twice, and none answered by itself."""
    for one in requests.asked:
        calls = len(fleet.upstream(one.mark))
        assert calls <= 1 if one.failure else calls == 1, one
