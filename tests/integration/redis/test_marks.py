"""What one server learns of the limits of a payer's account, the others with that account know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from bridge.core.contract.errors import BridgeError, NotLoggedInError, PlanLimitError
from bridge.core.contract.errors import RateLimitedError as Limited
from bridge.core.contract.events import Started
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import PayerKind
from bridge.core.payers.payers import PayingEngine
from bridge.core.payers.shared_marks import READ_SECONDS, SharedMarks
from bridge.core.redis import RedisLink, parse_redis_url
from tests.support.harness import user
from tests.support.paying import FakeEngine, payer, payers_of
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

LIMIT = PlanLimitError("The limit is reached.", retry_after=100)


class Server:
    """A server with an owner's login and a team's API key."""

    def __init__(self, fleet: Fleet, link: RedisLink, *outcomes: BridgeError, account: str) -> None:
        self.account = account
        self.link = link
        self.login = FakeEngine(PayerKind.LOGIN, outcomes)
        self.team = FakeEngine(PayerKind.API_KEY)
        accounts = {"mine": lambda: self.account, "team": lambda: ""}
        self.marks = SharedMarks(link, accounts, clock=lambda: fleet.time)
        self.payers = payers_of(
            payer("mine", PayerKind.LOGIN, self.login),
            payer("team", PayerKind.API_KEY, self.team, overflow=True),
            now=lambda: fleet.time,
            marks=self.marks,
        )

    async def ask(self, model: str | None = None) -> str:
        """Ask, and return which payer answered."""
        request = CompletionRequest((user("Hi."),), model=model)
        (started,) = [
            event async for event in self.payers.complete(request) if isinstance(event, Started)
        ]
        return started.payer


class Fleet:
    """Servers on one Redis, and a clock."""

    def __init__(self, redis: RedisServer, stack: AsyncExitStack) -> None:
        self.time = 1000.0
        self._url = redis.documented_user()
        self._stack = stack

    async def server(self, *outcomes: BridgeError, account: str = "me") -> Server:
        link = RedisLink(parse_redis_url(self._url))
        self._stack.push_async_callback(link.aclose)
        await link.start()
        server = Server(self, link, *outcomes, account=account)
        self._stack.push_async_callback(server.payers.aclose)
        return server


@pytest.fixture
async def fleet(redis_server: RedisServer) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(redis_server, stack)


@pytest.mark.parametrize("limit", [LIMIT, Limited("Slow down.", retry_after=100)])
async def test_a_limit_that_one_server_reaches_is_known_to_all_until_it_resets(
    fleet: Fleet, limit: BridgeError
) -> None:
    one, other = await fleet.server(limit), await fleet.server()
    assert await one.ask() == "team"
    assert await other.ask() == "team"
    assert other.login.asked == []
    (mark,) = other.payers.pool_state().payers[0].limited
    assert (mark.reason, mark.until) == (limit.reason, 1100.0)
    fleet.time += 100
    assert await other.ask() == "mine"
    assert await one.ask() == "mine"


async def test_it_is_known_even_if_no_other_payer_can_answer(fleet: Fleet) -> None:
    one, other = await fleet.server(LIMIT), await fleet.server()
    one.team.outcomes = iter([LIMIT])
    with pytest.raises(PlanLimitError):
        await one.ask()
    assert await other.ask() == "team"


async def test_it_is_known_a_second_later_at_most(fleet: Fleet) -> None:
    one, other = await fleet.server(LIMIT), await fleet.server()
    assert await other.ask() == "mine"
    assert await one.ask() == "team"
    fleet.time += READ_SECONDS
    assert await other.ask() == "team"


async def test_another_account_of_the_same_name_is_not_shut_out(fleet: Fleet) -> None:
    one = await fleet.server(LIMIT)
    other, unknown = await fleet.server(account="else"), await fleet.server(LIMIT, account="")
    assert await one.ask() == "team"
    assert await other.ask() == "mine"
    # Of an account that is not known, each server knows its own.
    assert await unknown.ask() == "team"
    assert await unknown.ask() == "team"
    assert await (await fleet.server(account="")).ask() == "mine"
    # A new login is another account, at once.
    one.account = "new"
    assert await one.ask() == "mine"


async def test_a_login_that_is_refused_is_a_matter_of_its_server(fleet: Fleet) -> None:
    one, other = await fleet.server(NotLoggedInError("Log in.")), await fleet.server()
    assert await one.ask() == "team"
    assert await other.ask() == "mine"
    assert await one.ask() == "team"


async def test_a_payer_that_answers_again_does_so_for_all(fleet: Fleet) -> None:
    one, other = await fleet.server(LIMIT), await fleet.server()
    assert await one.ask() == "team"
    await other.marks.refresh()
    assert other.marks.of("mine", fleet.time)
    # As after a reset before its time: one server has asked it nevertheless.
    other.marks.works("mine", "claude-opus-5")
    await other.marks.tell()
    fleet.time += READ_SECONDS
    assert await one.ask() == "mine"


async def test_a_short_mark_of_one_server_does_not_end_a_longer_one_of_another(
    fleet: Fleet,
) -> None:
    one = await fleet.server(LIMIT)
    other = await fleet.server(Limited("Slow down.", retry_after=5))
    await other.marks.refresh()
    assert await one.ask() == "team"
    # It has not learnt of the limit yet, and asks.
    assert await other.ask() == "team"
    fleet.time += 50
    assert await one.ask() == "team"
    assert await other.ask() == "team"


async def test_what_is_noted_while_redis_is_away_is_told_later_and_what_is_known_holds(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    one, other = await fleet.server(LIMIT, LIMIT), await fleet.server()
    assert await one.ask() == "team"
    assert await other.ask() == "team"
    redis_server.kill()
    await until(lambda: not one.link.up and not other.link.up)
    fleet.time += 50
    for server in (one, other):
        assert await server.ask() == "team"
    fleet.time += 51
    # Again, until 1201.
    assert await one.ask() == "team"
    assert await other.ask() == "mine"
    redis_server.start()
    redis_server.documented_user()
    await until(lambda: one.link.up and other.link.up)
    assert await one.ask() == "team"
    fleet.time += READ_SECONDS
    assert await other.ask() == "team"


@pytest.mark.parametrize(
    "text",
    ["no JSON", "[]", "{}", '{"reason": "R", "until": "x"}', '{"reason": "R", "until": 1e18}'],
)
async def test_what_others_have_written_neither_fails_a_request_nor_hides_the_next_mark(
    fleet: Fleet, redis_server: RedisServer, text: str
) -> None:
    one, other = await fleet.server(LIMIT), await fleet.server()
    key = other.link.key("marks", "me")
    await other.link.execute("HSET", key, "claude-opus-5", text)
    assert await other.ask() == "mine"
    assert await one.ask() == "team"
    fleet.time += READ_SECONDS
    assert await other.ask() == "team"


async def test_who_has_no_choice_asks_nothing_of_redis(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    link = RedisLink(parse_redis_url(redis_server.url))
    marks = SharedMarks(link, {"mine": lambda: "me"})
    engine = FakeEngine(PayerKind.LOGIN)
    payers = payers_of(payer("mine", PayerKind.LOGIN, engine), marks=marks)
    # The link would be asked in vain: it has not been started.
    request = CompletionRequest((user("Hi."),))
    events = [event async for event in payers.complete(request)]
    assert isinstance(events[0], Started)
    assert marks._read_at < 0
    await link.aclose()


async def test_a_server_without_a_list_of_payers_shares_nothing(fleet: Fleet) -> None:
    link = (await fleet.server()).link
    engine = FakeEngine(None, subscription=True)
    payers = payers_of(PayingEngine(engine), marks=SharedMarks(link, {}))  # type: ignore[arg-type]
    assert await payers.count_tokens(CompletionRequest((user("Hi."),))) == 7
    await payers.marks.refresh()
