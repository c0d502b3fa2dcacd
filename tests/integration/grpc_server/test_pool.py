"""PoolService over a real connection, and what it reports."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from bridge import __version__
from bridge.core.contract.events import Finished, FinishReason, Started
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import (
    Health,
    HealthStatus,
    PoolState,
    SessionSource,
    Totals,
    UsageLimits,
    UsageWindow,
)
from bridge.core.contract.usage import UNKNOWN_COST, Cost, Usage
from bridge.core.pool.policy import State
from bridge.core.telemetry.recent import RecentRequests
from bridge.core.telemetry.request_record import RequestRecord
from bridge.grpc_server.wire.encode import encode_request
from bridge.grpc_server.wire.pool_state import encode_pool
from bridge.v1 import completion_pb2
from bridge.v1 import pool_pb2 as pb
from bridge.v1 import pool_pb2_grpc as pb_grpc
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import FakeService
from tests.support.grpc.details import details_of
from tests.support.grpc.recent import logged_names
from tests.support.waiting import soon

POOL = pb.Pool(
    status=pb.Pool.STATUS_OK,
    account="subscription",
    logged_in=True,
    cli_version="2.1.0",
    lacking=["setting the effort of a process that runs"],
    pool_size=3,
    max_processes=6,
    processes=pb.Processes(running=1, parked=2),
    waiting=1,
    totals=pb.Totals(
        answered=5,
        failed=4,
        left=3,
        sessions=pb.Sessions(continued=2, warm=1),
        processes_started=9,
        processes_ended=6,
        processes_replaced=pb.Replaced(),
    ),
    version=__version__,
)


async def test_the_state_of_the_pool_is_sent(serve: Serve) -> None:
    _, channel = await serve()
    call = pb_grpc.PoolServiceStub(channel).GetPool(pb.GetPoolRequest())
    assert (await soon(call)).pool == POOL
    assert "x-request-id" in dict(tuple(await call.initial_metadata()))


async def test_changes_are_sent_and_simultaneous_ones_are_merged(
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
    await service.until_closed()


async def test_the_state_is_sent_again_after_silence(serve: Serve, service: FakeService) -> None:
    _, channel = await serve(heartbeat_seconds=0.01)
    call = pb_grpc.PoolServiceStub(channel).WatchPool(pb.WatchPoolRequest())

    async def following() -> pb.Pool:
        response = await soon(call.read())
        assert isinstance(response, pb.WatchPoolResponse)
        return response.pool

    assert [await following() for _ in range(3)] == [POOL] * 3
    # The state at that moment, not the last one sent.
    service.waiting = 7
    while (await following()).waiting != 7:
        pass
    # Changes are still reported.
    service.waiting = 8
    service.changed.set()
    while (await following()).waiting != 8:
        pass
    assert not service.closed.is_set()
    call.cancel()
    await service.until_closed()


async def test_a_watch_does_not_hold_up_a_drain(serve: Serve, service: FakeService) -> None:
    server, channel = await serve()
    call = pb_grpc.PoolServiceStub(channel).WatchPool(pb.WatchPoolRequest())
    await soon(call.read())
    await soon(server.drain(600))
    assert service.closed.is_set()
    assert await soon(call.code()) is grpc.StatusCode.UNAVAILABLE
    assert (await details_of(call)).info.reason == "DRAINING"


def told(status: HealthStatus = HealthStatus.OK, plan: UsageLimits | None = None) -> pb.Pool:
    health = Health(status, logged_in=True, account="x", cli_version="")
    return encode_pool(PoolState(health, 0, Totals(), plan))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (HealthStatus.OK, pb.Pool.STATUS_OK),
        (HealthStatus.STARTING, pb.Pool.STATUS_STARTING),
        (HealthStatus.DRAINING, pb.Pool.STATUS_DRAINING),
        (HealthStatus.NOT_LOGGED_IN, pb.Pool.STATUS_NOT_LOGGED_IN),
        (HealthStatus.UNAVAILABLE, pb.Pool.STATUS_UNAVAILABLE),
        (HealthStatus.OVERAGE_AHEAD, pb.Pool.STATUS_OVERAGE_AHEAD),
    ],
)
def test_status(status: HealthStatus, expected: pb.Pool.Status.ValueType) -> None:
    assert told(status).status == expected


def test_a_plan() -> None:
    plan = told(plan=UsageLimits("rejected", 1_800_000_000.5, "five_hour", 1.0, True)).plan
    assert plan.reset_time.ToDatetime(UTC) == datetime(2027, 1, 15, 8, 0, 0, 500_000, UTC)
    assert (plan.status, plan.limit, plan.utilization) == (
        pb.Plan.STATUS_REJECTED,
        "five_hour",
        1.0,
    )
    assert plan.using_overage


def test_unreported_fields_of_usage_limits_are_unset() -> None:
    assert not told().HasField("plan")
    plan = told(plan=UsageLimits("allowed")).plan
    assert not plan.HasField("reset_time")
    assert not plan.HasField("utilization")


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e300])
def test_a_time_that_is_none_is_left_out(seconds: float) -> None:
    assert not told(plan=UsageLimits("allowed", seconds)).plan.HasField("reset_time")


def test_every_state_of_a_process_has_its_field() -> None:
    assert {field.name for field in pb.Processes.DESCRIPTOR.fields} == set(State)


def test_usage_limits_and_when_they_were_reported() -> None:
    windows = (UsageWindow("five_hour", 0.4, 1_800_000_000), UsageWindow("seven_day", 0.9))
    plan = told(plan=UsageLimits("allowed", windows=windows, said_at=1_700_000_000)).plan
    assert plan.report_time.seconds == 1_700_000_000
    assert [(window.limit, window.utilization) for window in plan.windows] == [
        ("five_hour", 0.4),
        ("seven_day", 0.9),
    ]
    assert plan.windows[0].reset_time.seconds == 1_800_000_000
    assert not plan.windows[1].HasField("reset_time")


def test_replaced_processes_are_counted_by_why() -> None:
    health = Health(
        HealthStatus.OK, logged_in=True, account="x", cli_version="", subscription="max"
    )
    totals = Totals(processes_replaced={"died": 2, "worn": 1, "something new": 9})
    pool = encode_pool(PoolState(health, 0, totals))
    assert pool.totals.processes_replaced == pb.Replaced(died=2, worn=1)
    assert pool.subscription == "max"


def record(**fields: object) -> RequestRecord:
    request = CompletionRequest((), request_id="req_1", api="http", **fields)  # type: ignore[arg-type]
    return RequestRecord(request, 0.0, started_on=1_700_000_000)


def lines(*records: RequestRecord) -> list[dict[str, Any]]:
    """What is kept of requests, in the order in which they ended; the latest one is first."""
    recent = RecentRequests()
    for each in records:
        recent.ended(each)
        recent.booked(each)
    return recent.lines()


def encoded(record: RequestRecord) -> pb.RecentRequest:
    return encode_request(*lines(record))


async def test_the_latest_requests_are_sent_newest_first(serve: Serve) -> None:
    older, newer = record(model="opus"), record(model="haiku", caller="laptop")
    _, channel = await serve(recent=lambda: lines(older, newer))
    call = pb_grpc.PoolServiceStub(channel).ListRecentRequests(pb.ListRecentRequestsRequest())
    requests = (await soon(call)).requests
    assert [(request.requested_model, request.key) for request in requests] == [
        ("haiku", "laptop"),
        ("opus", ""),
    ]
    assert requests[0].end_time.seconds == 1_700_000_000


def test_a_request_that_was_answered() -> None:
    seen = record(model="opus")
    seen.leased(SessionSource.WARM, 0.25)
    seen.times.first_token_at, seen.times.ended_at = 0.5, 2.0
    seen.see(Started("claude-opus-4"), 0.5)
    seen.see(Finished(FinishReason.LENGTH, Usage(1, 2, 3, 4, 0)), 2.0)
    seen.cost = Cost(0.25)
    request = encoded(seen)
    assert (request.request_id, request.api) == ("req_1", pb.API_HTTP)
    assert request.session_source == pb.SESSION_SOURCE_WARM
    durations = request.queue_duration, request.first_token_duration, request.total_duration
    assert [duration.ToMilliseconds() for duration in durations] == [250, 500, 2000]
    assert (request.model, request.error_reason) == ("claude-opus-4", "")
    assert request.finish_reason == completion_pb2.FINISH_REASON_LENGTH
    assert request.cost == completion_pb2.Cost(usd=0.25, payer="default")
    assert request.usage == completion_pb2.Usage(
        input_tokens=1, cache_read_tokens=2, cache_write_tokens=3, output_tokens=4
    )


def test_what_never_came_of_a_request_is_unset() -> None:
    failed = record()
    failed.error, failed.cost = "QUEUE_FULL", UNKNOWN_COST
    request = encoded(failed)
    assert (request.error_reason, request.finish_reason) == ("QUEUE_FULL", 0)
    assert not request.HasField("requested_model")
    assert not request.HasField("queue_duration")
    assert not request.HasField("first_token_duration")
    assert not request.HasField("usage")
    assert not request.cost.HasField("usd")


def test_a_model_that_no_text_can_hold_does_not_hide_the_other_requests() -> None:
    assert encoded(record(model="a\ud800b")).requested_model == "a\ufffdb"


def test_the_labels_of_a_request_are_encoded_as_far_as_they_can_be() -> None:
    assert encoded(record(labels={"team": "a\ud800b"})).labels == {"team": "a\ufffdb"}


def test_every_logged_field_of_a_request_is_encoded() -> None:
    assert logged_names() == set(*lines(record()))
