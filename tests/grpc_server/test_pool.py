"""PoolService over a real connection, and what it tells."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import grpc
import pytest

from bridge.core.pool_policy import State
from bridge.core.service import Health, PlanState, PoolState, Totals
from bridge.grpc_server.encode import encode_pool
from bridge.v1 import pool_pb2 as pb
from bridge.v1 import pool_pb2_grpc as pb_grpc
from tests.grpc_server.conftest import Serve
from tests.grpc_server.details import details_of
from tests.grpc_server.fakes import FakeService, soon

POOL = pb.Pool(
    status=pb.Pool.STATUS_OK,
    account="subscription",
    logged_in=True,
    cli_version="2.0",
    lacking=["setting the effort of a process that runs"],
    pool_size=3,
    max_processes=6,
    processes=pb.Processes(running=1, parked=2),
    totals=pb.Totals(
        answered=5,
        failed=4,
        left=3,
        sessions=pb.Sessions(continued=2, warm=1),
        processes_started=9,
        processes_ended=6,
    ),
)


async def test_the_pool_is_told(serve: Serve) -> None:
    _, channel = await serve()
    call = pb_grpc.PoolServiceStub(channel).GetPool(pb.GetPoolRequest())
    assert (await soon(call)).pool == POOL
    assert "x-request-id" in dict(tuple(await call.initial_metadata()))


async def test_changes_are_told_and_those_that_come_together_as_one(
    serve: Serve, service: FakeService
) -> None:
    _, channel = await serve()
    call = pb_grpc.PoolServiceStub(channel).WatchPool(pb.WatchPoolRequest())
    first = await soon(call.read())
    assert isinstance(first, pb.WatchPoolResponse)
    assert first.pool == POOL
    for waiting in range(1, 6):
        service.waiting = waiting
        service.changed.set()
        await asyncio.sleep(0)
    second = await soon(call.read())
    assert isinstance(second, pb.WatchPoolResponse)
    assert second.pool.waiting == 5
    call.cancel()
    await soon(service.closed.wait())


async def test_a_watch_does_not_hold_up_a_drain(serve: Serve, service: FakeService) -> None:
    server, channel = await serve()
    call = pb_grpc.PoolServiceStub(channel).WatchPool(pb.WatchPoolRequest())
    await soon(call.read())
    await soon(server.drain(600))
    assert service.closed.is_set()
    assert await soon(call.code()) is grpc.StatusCode.UNAVAILABLE
    assert (await details_of(call)).info.reason == "DRAINING"


def told(status: str = "ok", plan: PlanState | None = None) -> pb.Pool:
    health = Health(status, logged_in=True, account="x", cli_version="")
    return encode_pool(PoolState(health, 0, Totals(), plan))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("ok", pb.Pool.STATUS_OK),
        ("starting", pb.Pool.STATUS_STARTING),
        ("draining", pb.Pool.STATUS_DRAINING),
        ("not_logged_in", pb.Pool.STATUS_NOT_LOGGED_IN),
        ("unavailable", pb.Pool.STATUS_UNAVAILABLE),
        ("something new", pb.Pool.STATUS_UNSPECIFIED),
    ],
)
def test_status(status: str, expected: pb.Pool.Status.ValueType) -> None:
    assert told(status).status == expected


def test_a_plan() -> None:
    plan = told(plan=PlanState("rejected", 1_800_000_000.5, "five_hour", 1.0, True)).plan
    assert plan.resets_at.ToDatetime(UTC) == datetime(2027, 1, 15, 8, 0, 0, 500_000, UTC)
    assert (plan.status, plan.limit, plan.utilization) == ("rejected", "five_hour", 1.0)
    assert plan.using_overage


def test_what_was_not_said_of_a_plan_is_unset() -> None:
    assert not told().HasField("plan")
    plan = told(plan=PlanState("allowed")).plan
    assert not plan.HasField("resets_at")
    assert not plan.HasField("utilization")


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e300])
def test_a_time_that_is_none_is_left_out(seconds: float) -> None:
    assert not told(plan=PlanState("allowed", seconds)).plan.HasField("resets_at")


def test_every_state_of_a_process_has_its_field() -> None:
    assert {field.name for field in pb.Processes.DESCRIPTOR.fields} == set(State)
