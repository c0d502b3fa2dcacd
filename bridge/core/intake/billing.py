"""Waits for the cost of each request, which Claude Code reports after the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from bridge.core.contract import UNKNOWN_COST, Cost
from bridge.core.telemetry import RequestRecord

_BOOKED_SECONDS: Final = 5.0
"""How long a reply waits for the cost of its request's earlier attempts."""


class RequestBill:
    """Adds up the cost of one request: of all its attempts."""

    def __init__(self, record: RequestRecord, on_complete: Callable[[RequestBill], None]) -> None:
        """`on_complete` is called once the request has ended and its cost is known."""
        self.record = record
        self._on_complete = on_complete
        self._expected = 0
        self._added = asyncio.Event()
        self._ended = False

    async def so_far(self) -> Cost:
        """Return the cost of the attempts that are over.

        Waits for it, which takes milliseconds; unknown if it takes seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BOOKED_SECONDS):
                while self._expected:
                    self._added.clear()
                    await self._added.wait()
        return self.record.cost + UNKNOWN_COST if self._expected else self.record.cost

    def expect(self) -> Callable[[Cost], None]:
        """Expect the cost of an attempt, with which the returned function is called once."""
        self._expected += 1
        return self._add

    def end(self) -> None:
        """The request has ended: no further attempt follows."""
        self._ended = True
        self._check()

    def close(self) -> None:
        """Stop waiting: what is still missing is unknown."""
        if self._expected:
            self._expected = 0
            self.record.cost += UNKNOWN_COST
        self.end()

    def _add(self, cost: Cost) -> None:
        if self._expected:
            self._expected -= 1
            self.record.cost += cost
            self._added.set()
            self._check()

    def _check(self) -> None:
        if self._ended and not self._expected:
            self._on_complete(self)


class Bills:
    """The requests whose cost is not known yet."""

    def __init__(self, on_booked: Callable[[RequestRecord], None]) -> None:
        """`on_booked` is called once with the record of each request, after its end."""
        self._on_booked = on_booked
        self._open: set[RequestBill] = set()
        self._changed = asyncio.Event()

    def open(self, record: RequestRecord) -> RequestBill:
        """Open the bill of a request."""
        bill = RequestBill(record, self._complete)
        self._open.add(bill)
        return bill

    async def booked(self, wanted: Callable[[RequestRecord], bool] = lambda record: True) -> None:
        """Wait until the wanted ones of the requests so far have ended and are booked."""
        waiting = {bill for bill in self._open if wanted(bill.record)}
        while waiting & self._open:
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Book all requests; what is not known by now stays unknown."""
        for bill in list(self._open):
            bill.close()

    def _complete(self, bill: RequestBill) -> None:
        if bill in self._open:
            self._open.remove(bill)
            self._changed.set()
            self._on_booked(bill.record)
