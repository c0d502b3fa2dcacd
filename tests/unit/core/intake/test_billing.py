"""The bill of a request with several attempts."""

from __future__ import annotations

import asyncio

import pytest

from bridge.core.contract import CompletionRequest, Cost
from bridge.core.intake.billing import Bills, RequestBill
from bridge.core.telemetry import RequestRecord
from tests.support.harness import PATIENCE, user


def opened() -> RequestBill:
    request = CompletionRequest((user("Hello"),))
    return RequestBill(RequestRecord(request, 0.0, started_on=0.0), lambda bill: None)


async def test_the_cost_so_far_waits_for_the_attempts_that_are_over() -> None:
    bill = opened()
    first, second = bill.expect(), bill.expect()
    asked = asyncio.create_task(bill.so_far())
    await asyncio.sleep(0)
    first(Cost(0.5))
    await asyncio.sleep(0)
    assert not asked.done()
    second(Cost(0.25))
    assert await asyncio.wait_for(asked, PATIENCE) == Cost(0.75)
    assert await bill.so_far() == Cost(0.75)


async def test_what_is_not_booked_in_time_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.core.intake.billing._BOOKED_SECONDS", 0.01)
    bill = opened()
    bill.expect()(Cost(0.5))
    bill.expect()
    cost = await asyncio.wait_for(bill.so_far(), PATIENCE)
    assert (cost.usd, cost.known) == (0.5, False)


async def test_what_is_not_booked_when_the_server_stops_is_unknown() -> None:
    booked: list[RequestRecord] = []
    bills = Bills(booked.append)
    bill = bills.open(RequestRecord(CompletionRequest((user("Hello"),)), 0.0))
    first, second = bill.expect(), bill.expect()
    first(Cost(0.5))
    bills.close()
    # Too late.
    second(Cost(0.25))
    (record,) = booked
    assert (record.cost.usd, record.cost.known) == (0.5, False)
