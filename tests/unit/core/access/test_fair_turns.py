"""Waiting callers take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from bridge.core.access.fair_turns import FairTurns
from tests.support.harness import PATIENCE


class Users:
    """Tasks that record the order of their turns."""

    def __init__(self) -> None:
        self.turns = FairTurns()
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.held = asyncio.Event()

    async def use(self, name: str) -> None:
        async with self.turns.turn(name[0]):
            self.order.append(name)
            await self.held.wait()

    async def arrive(self, names: Sequence[str]) -> None:
        for name in names:
            self.tasks[name] = asyncio.create_task(self.use(name))
            await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def users(*names: str) -> AsyncGenerator[Users, None]:
    """Callers, the first of which has its turn; all have had theirs in the end."""
    present = Users()
    await present.arrive(names)
    yield present
    present.held.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*present.tasks.values(), return_exceptions=True)
    async with asyncio.timeout(PATIENCE), present.turns.turn("z"):
        pass


async def test_one_that_asks_often_delays_another_by_one_turn() -> None:
    async with users("a1", "a2", "a3", "b1", "a4", "c1", "b2") as present:
        assert present.order == ["a1"]
    assert present.order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


async def test_one_caller_goes_by_arrival() -> None:
    async with users("a1", "a2", "a3") as present:
        pass
    assert present.order == ["a1", "a2", "a3"]


async def test_one_that_leaves_while_it_waits_is_passed_over() -> None:
    async with users("a1", "b1", "c1") as present:
        present.tasks["b1"].cancel()
        await settled()
    assert present.order == ["a1", "c1"]


async def test_one_that_leaves_as_its_turn_comes_passes_it_on() -> None:
    async with users() as present:
        async with present.turns.turn("a"):
            await present.arrive(["b1", "c1"])
        # It has been chosen, and has not run since.
        present.tasks["b1"].cancel()
    assert present.order == ["c1"]


async def test_one_that_left_just_before_its_turn_passes_it_on() -> None:
    async with users() as present, present.turns.turn("a"):
        await present.arrive(["b1", "c1"])
        present.tasks["b1"].cancel()
    assert present.order == ["c1"]


async def test_a_newcomer_waits_behind_the_one_that_was_chosen() -> None:
    async with users() as present:
        present.held.set()
        async with present.turns.turn("a"):
            await present.arrive(["b1"])
        # It has been chosen, and has not run since.
        assert present.order == []
        async with present.turns.turn("c"):
            assert present.order == ["b1"]
