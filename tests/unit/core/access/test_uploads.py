from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from bridge.core.access import Uploads
from bridge.core.contract import RateLimitedError
from tests.support.harness import PATIENCE


def test_a_key_may_have_half_of_it() -> None:
    uploads = Uploads(100)
    with uploads.receiving("a") as one, uploads.receiving("a") as two:
        one.hold(30)
        two.hold(20)
        with pytest.raises(
            RateLimitedError, match="This key has reached its limit of 50 bytes"
        ) as error:
            two.hold(21)
        assert error.value.reason == "UPLOADS_TOO_LARGE"
        assert error.value.retryable
        assert error.value.retry_after
        one.hold(29)
        two.hold(21)
    assert uploads.used == 0


def test_all_keys_share_the_whole() -> None:
    uploads = Uploads(100)
    with uploads.receiving("a") as a, uploads.receiving("b") as b, uploads.receiving("c") as c:
        a.hold(50)
        b.hold(49)
        c.hold(1)
        with pytest.raises(
            RateLimitedError, match="This server has reached its limit of 100 bytes"
        ):
            c.hold(2)
    assert uploads.used == 0


def test_what_was_refused_is_not_counted() -> None:
    uploads = Uploads(100)
    with uploads.receiving("a") as upload:
        upload.hold(40)
        with pytest.raises(RateLimitedError):
            upload.hold(60)
        assert uploads.used == 40
    assert uploads.used == 0


async def test_room_is_waited_for_in_turn() -> None:
    uploads = Uploads(40)
    order: list[str] = []

    async def come(name: str, caller: str, stay: asyncio.Event) -> None:
        async with uploads.room(caller, 20, PATIENCE):
            order.append(name)
            await stay.wait()

    first, others = asyncio.Event(), asyncio.Event()
    others.set()
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        tasks.create_task(come("one of a", "a", first))
        tasks.create_task(come("two of a", "a", others))
        tasks.create_task(come("three of a", "a", others))
        # Another key does not wait behind those.
        tasks.create_task(come("one of b", "b", others))
        while "one of b" not in order:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0)
        assert order == ["one of a", "one of b"]
        assert uploads.waiting == 2
        first.set()
    assert order == ["one of a", "one of b", "two of a", "three of a"]
    assert (uploads.used, uploads.waiting) == (0, 0)


@pytest.mark.parametrize("how", ["late", "cancelled", "cancelled when admitted"])
async def test_a_request_that_stops_waiting_takes_no_room(how: str) -> None:
    uploads = Uploads(40)

    async def wait() -> None:
        async with uploads.room("a", 20, 0.01 if how == "late" else PATIENCE):
            raise AssertionError("not reached")

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(uploads.room("a", 20, PATIENCE))
        task = asyncio.create_task(wait())
        while not uploads.waiting:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0)
        if how == "late":
            with pytest.raises(RateLimitedError):
                await task
        elif how == "cancelled":
            task.cancel()
        else:
            await stack.aclose()
            task.cancel()
        await asyncio.wait([task])
    assert (uploads.used, uploads.waiting) == (0, 0)
