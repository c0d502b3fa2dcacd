"""When a login that does not work is looked at, and asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from bridge.core.claude import Facts
from bridge.core.engine import login_watch
from bridge.core.engine.health import AccountState
from bridge.core.engine.login_watch import LoginWatch, Verdict
from tests.support.waiting import soon

LOGGED_IN = Facts("2.1.0", {"tokenSource": "token"}, ())


class Watched:
    """An account whose login was refused, and what an API says to each question."""

    def __init__(self, *verdicts: Verdict | Exception) -> None:
        self._verdicts = list(verdicts)
        self.files = 0
        self.asked = 0
        self.changed = asyncio.Event()
        self.account = AccountState(self._changed, lambda facts: None, self._nothing)
        self.watch = LoginWatch(self.account, self._ask, lambda: self.files)
        self.account.learn(LOGGED_IN)
        self.account.login_refused("No.")

    def _changed(self) -> None:
        self.watch.look()
        self.changed.set()

    async def _ask(self) -> Verdict:
        self.asked += 1
        self.changed.set()
        verdict = self._verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    def _nothing(self) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(0)

    async def until_asked(self, times: int) -> None:
        while self.asked < times:
            self.changed.clear()
            await soon(self.changed.wait())

    async def until_over(self) -> None:
        assert self.watch._watching is not None
        await soon(self.watch._watching)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_watch, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(login_watch, "CHECK_SECONDS", 0.002)
    monkeypatch.setattr(login_watch, "RARE_CHECK_SECONDS", 3000.0)


async def test_it_asks_until_the_login_is_accepted() -> None:
    watched = Watched(Verdict.REFUSED, Verdict.REFUSED, Verdict.ACCEPTED)
    await watched.until_over()
    assert watched.asked == 3
    assert watched.account.logged_in
    await watched.account.aclose()


async def test_a_question_that_fails_is_not_the_last_one() -> None:
    watched = Watched(OSError("no process"), Verdict.ACCEPTED)
    await watched.until_over()
    assert watched.account.logged_in
    await watched.account.aclose()


async def test_a_login_that_only_a_request_can_show_is_tried_with_the_next_one() -> None:
    watched = Watched(Verdict.UNKNOWN)
    await watched.until_over()
    assert watched.account.login_accepted is None
    assert watched.account.logged_in


async def test_if_requests_keep_disproving_it_it_asks_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(login_watch, "FREQUENT_CHECKS", 2)
    watched = Watched(Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.UNKNOWN)
    for _ in range(2):
        await watched.until_over()
        watched.account.login_refused("No.")
    await asyncio.sleep(0.02)
    assert watched.asked == 2
    await watched.watch.aclose()


async def test_a_stored_login_is_asked_about_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_watch, "CHECK_SECONDS", 3000.0)
    watched = Watched(Verdict.ACCEPTED)
    await asyncio.sleep(0.01)
    assert watched.asked == 0
    watched.files += 1
    await watched.until_over()
    assert watched.account.logged_in
    await watched.account.aclose()


async def test_a_stored_login_is_tried_even_if_the_api_does_not_count_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(login_watch, "CHECK_SECONDS", 3000.0)
    watched = Watched(Verdict.REFUSED)
    await asyncio.sleep(0.01)
    watched.files += 1
    await watched.until_over()
    assert watched.account.login_accepted is None
    assert watched.account.logged_in
    await watched.account.aclose()


async def test_after_many_refusals_it_asks_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_watch, "FREQUENT_CHECKS", 2)
    watched = Watched(Verdict.REFUSED, Verdict.REFUSED, Verdict.ACCEPTED)
    await watched.until_asked(2)
    await asyncio.sleep(0.02)
    assert watched.asked == 2
    await watched.watch.aclose()


async def test_a_request_that_succeeds_ends_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_watch, "CHECK_SECONDS", 3000.0)
    watched = Watched()
    watched.account.login_works()
    await watched.until_over()
    assert watched.asked == 0
    await watched.account.aclose()


async def test_nothing_is_watched_once_it_is_closed() -> None:
    watched = Watched()
    await watched.watch.aclose()
    watched.account.login_refused("Never.")
    assert watched.watch._watching is not None
    assert watched.watch._watching.done()
