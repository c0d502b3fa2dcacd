"""Several payers behind one service: whose requests reach which, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core.access.keys import KeyOwner, KeyUse
from bridge.core.contract.errors import (
    BridgeError,
    InvalidRequestError,
    ModelNotFoundError,
    NotLoggedInError,
    PermissionDeniedError,
    PlanLimitError,
    RateLimitedError,
    UnavailableError,
)
from bridge.core.contract.events import Started
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import HealthStatus, PayerKind
from bridge.core.engine.planning.models import Catalog
from bridge.core.payers.payers import Payers, PayingEngine, Sharing
from bridge.core.telemetry import RequestRecord
from tests.support.harness import SCALE, assistant, user
from tests.support.paying import FULL, FakeEngine, Midway, payer, payers_of

LIMIT = PlanLimitError("The limit is reached.", retry_after=100)


class Log:
    """Remembers the records of requests."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def began(self, record: RequestRecord) -> None:
        """Nothing is known yet."""

    def booked(self, record: RequestRecord) -> None:
        """There is no cost."""

    def ended(self, record: RequestRecord) -> None:
        self.records.append(record)


class Stage:
    """An owner's login and a team's API key, and a clock."""

    def __init__(self, *outcomes: BridgeError | Midway | None, **shared: Any) -> None:
        self.login = FakeEngine(PayerKind.LOGIN, outcomes)
        self.key = FakeEngine(PayerKind.API_KEY)
        self.log = Log()
        self.time = 1000.0
        self.payers = payers_of(
            payer("mine", PayerKind.LOGIN, self.login),
            payer("team", PayerKind.API_KEY, self.key, overflow=True),
            observer=self.log,
            now=lambda: self.time,
            **shared,
        )

    async def ask(self, *texts: str, model: str | None = None, caller: str = "") -> str:
        """Ask, and return which payer answered."""
        return await answered_by(self.payers, *texts, model=model, caller=caller)


async def answered_by(
    payers: Payers, *texts: str, model: str | None = None, caller: str = ""
) -> str:
    turns = [(assistant if n % 2 else user)(text) for n, text in enumerate(texts or ("Hello",))]
    request = CompletionRequest(tuple(turns), model=model, caller=caller, owner=caller)
    async with aclosing(payers.complete(request)) as events:
        return next(e.payer for e in [e async for e in events] if isinstance(e, Started))


@pytest.mark.parametrize(
    "error", [LIMIT, NotLoggedInError("x"), RateLimitedError("x", retry_after=30)]
)
async def test_the_next_payer_answers_unseen_and_the_first_is_left_out_until_it_can(
    error: BridgeError,
) -> None:
    stage = Stage(error)
    assert await stage.ask() == "team"
    assert await stage.ask() == "team"
    assert len(stage.login.asked) == 1
    stage.time += 101
    assert await stage.ask() == "mine"
    assert [record.payer for record in stage.log.records] == ["team", "team", "mine"]
    assert not any(record.error for record in stage.log.records)


async def test_other_models_of_a_payer_at_its_limit_are_still_its_own() -> None:
    stage = Stage(LIMIT)
    both = [{"value": "opus", "resolvedModel": FULL}, {"value": "haiku", "resolvedModel": "h"}]
    for engine in (stage.login, stage.key):
        engine.catalog = engine.resources.planner.catalog = Catalog.from_cli(both)
    assert await stage.ask(model="opus") == "team"
    assert await stage.ask(model="haiku") == "mine"
    assert await stage.ask(model=FULL) == "team", "the same model by its full name"


async def test_a_conversation_stays_with_the_payer_that_has_its_cache() -> None:
    stage = Stage(LIMIT)
    assert await stage.ask("Hello") == "team"
    stage.time += 150
    assert await stage.ask("Hello", "hi", "And now?") == "team"
    assert await stage.ask("Something else") == "mine"
    stage.time += 301
    assert await stage.ask("Hello", "hi", "And now?", "hi", "Later") == "mine"


async def test_after_the_first_event_a_failure_is_the_answer_and_marks_the_payer() -> None:
    stage = Stage(Midway(NotLoggedInError("Revoked.")))
    with pytest.raises(NotLoggedInError):
        await stage.ask()
    assert stage.key.asked == []
    assert await stage.ask() == "team"


@pytest.mark.parametrize("error", [InvalidRequestError("x"), UnavailableError("x")])
async def test_other_failures_are_the_answer(error: BridgeError) -> None:
    stage = Stage(error)
    with pytest.raises(type(error)):
        await stage.ask()
    assert stage.key.asked == []


async def test_if_none_can_answer_the_error_is_that_of_the_first_one_to_return() -> None:
    stage = Stage(LIMIT)
    stage.key.outcomes = iter([RateLimitedError("Busy.", retry_after=5)])
    with pytest.raises(RateLimitedError):
        await stage.ask()
    stage.key.outcomes = iter([NotLoggedInError("x")])
    stage.login.outcomes = iter([LIMIT])
    stage.time += 200
    with pytest.raises(PlanLimitError):
        await stage.ask()


async def test_a_payer_without_the_model_is_not_asked_for_it() -> None:
    key = FakeEngine(PayerKind.API_KEY, models=("default", "haiku"))
    login = FakeEngine(PayerKind.LOGIN, [LIMIT])
    payers = payers_of(
        payer("mine", PayerKind.LOGIN, login),
        payer("team", PayerKind.API_KEY, key, overflow=True),
    )
    assert await answered_by(payers, model="haiku") == "team"
    with pytest.raises(PlanLimitError):
        await answered_by(payers, model="opus")
    with pytest.raises(ModelNotFoundError):
        await answered_by(payers, model="opuss")
    assert {model.id for model in await payers.models()} >= {"default", "opus", "haiku"}
    assert (await payers.model("haiku")).id == "haiku"
    with pytest.raises(ModelNotFoundError):
        await payers.model("none")


async def test_nothing_is_billed_unless_it_was_asked_for() -> None:
    login, key = FakeEngine(PayerKind.LOGIN, [LIMIT]), FakeEngine(PayerKind.API_KEY)
    uses = {"x": KeyUse(KeyOwner.MINE, ("mine", "team"))}
    payers = payers_of(
        payer("mine", PayerKind.LOGIN, login),
        payer("team", PayerKind.API_KEY, key),
        use_of=uses.__getitem__,
    )
    with pytest.raises(PlanLimitError):
        await answered_by(payers, caller="x")
    uses["x"] = replace(uses["x"], overflow=True)
    assert await answered_by(payers, caller="x") == "team"


async def test_a_payer_that_reports_a_subscription_is_one_whatever_it_was_added_as() -> None:
    engine = FakeEngine(PayerKind.API_KEY, subscription=True)
    payers = payers_of(
        payer("team", PayerKind.API_KEY, engine),
        use_of=lambda caller: KeyUse(KeyOwner.OTHER, ("team",)),
    )
    with pytest.raises(PermissionDeniedError):
        await answered_by(payers, caller="anna")
    assert engine.asked == []


@pytest.mark.parametrize("count", [False, True])
async def test_a_key_that_is_changed_while_its_request_waits_is_asked_about_again(
    *, count: bool
) -> None:
    login, key = FakeEngine(PayerKind.LOGIN), FakeEngine(PayerKind.API_KEY)
    uses = {"x": KeyUse(KeyOwner.MINE)}
    payers = payers_of(
        payer("mine", PayerKind.LOGIN, login),
        payer("team", PayerKind.API_KEY, key),
        use_of=lambda caller: uses["x"],
    )

    async def ask() -> None:
        if count:
            await payers.count_tokens(CompletionRequest((user("Hello"),), caller="x"))
        else:
            await answered_by(payers, caller="x")

    login.waited = lambda: uses.update(x=KeyUse(KeyOwner.OTHER))
    with pytest.raises(PermissionDeniedError):
        await ask()
    uses["x"] = KeyUse(KeyOwner.MINE)
    login.waited = lambda: uses.update(x=KeyUse(KeyOwner.OTHER, ("team",)))
    with pytest.raises(UnavailableError, match="Send it again"):
        await ask()
    assert login.asked == []
    await ask()
    assert len(key.asked) == 1


@pytest.mark.parametrize("named", [True, False])
async def test_an_account_that_turns_out_to_be_a_subscription_serves_its_owner_only(
    *, named: bool
) -> None:
    """Also where the request came before anything was known of it."""
    engine = FakeEngine(PayerKind.API_KEY if named else None, subscription=True)
    engine.account.facts = None
    engine.waited = lambda: setattr(engine.account, "facts", object())
    shared = Sharing(use_of=lambda caller: KeyUse(KeyOwner.OTHER, ("default",)))
    only = payer("default", PayerKind.API_KEY, engine) if named else PayingEngine(engine)  # type: ignore[arg-type]
    with pytest.raises(PermissionDeniedError if named else UnavailableError):
        await answered_by(Payers([only], Log(), shared), caller="anna")
    assert engine.asked == []


async def test_without_a_list_the_account_decides_and_events_name_no_payer() -> None:
    engine = FakeEngine(None, subscription=True)
    uses = {"me": KeyUse(KeyOwner.MINE), "anna": KeyUse(KeyOwner.OTHER, ("default",))}
    shared = Sharing(use_of=uses.__getitem__)
    payers = Payers([PayingEngine(engine)], Log(), shared)  # type: ignore[arg-type]
    assert await answered_by(payers, caller="me") == ""
    with pytest.raises(PermissionDeniedError) as caught:
        await answered_by(payers, caller="anna")
    assert caught.value.reason == "LOGIN_NOT_SHARED"
    engine.subscription = False
    assert await answered_by(payers, caller="anna") == ""
    engine.account.facts = None
    with pytest.raises(UnavailableError, match="starting"):
        await answered_by(payers, caller="anna")


async def test_the_server_is_well_while_any_payer_can_serve() -> None:
    stage = Stage()
    stage.login.status = HealthStatus.NOT_LOGGED_IN
    await stage.ask()
    health = stage.payers.health()
    assert (health.status, health.logged_in, health.waiting) == (HealthStatus.OK, True, 2)
    assert health.processes == {"idle": 2}
    assert health.detail == "Payer mine: It is not logged in."
    state = stage.payers.pool_state()
    assert state.totals.processes_started == 4
    assert [(p.name, p.kind, p.health.status, p.answered) for p in state.payers] == [
        ("mine", PayerKind.LOGIN, HealthStatus.NOT_LOGGED_IN, 1),
        ("team", PayerKind.API_KEY, HealthStatus.OK, 0),
    ]
    stage.key.status = HealthStatus.UNAVAILABLE
    assert stage.payers.health().status is HealthStatus.NOT_LOGGED_IN


async def test_a_payer_that_does_not_start_is_left_out_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.core.payers.payers.RETRY_SECONDS", 0.01)
    stage = Stage()
    stage.login.fault, stage.login.account.facts = OSError(), None
    await stage.payers.start()
    assert await stage.ask() == "team"
    stage.login.fault = None
    (starting,) = stage.payers._starting
    await asyncio.wait_for(starting, 60)
    stage.key.fault = stage.login.fault = OSError("none")
    with pytest.raises(OSError, match="none"):
        await stage.payers.start()
    await stage.payers.aclose()


kinds = st.sampled_from([*PayerKind])
failures = st.sampled_from(
    [
        None,
        None,
        LIMIT,
        NotLoggedInError("x"),
        RateLimitedError("x", retry_after=3),
        PlanLimitError("x", reason="USAGE_CREDITS_REQUIRED"),
        UnavailableError("x"),
        Midway(NotLoggedInError("x")),
        Midway(LIMIT),
    ]
)
steps = st.tuples(
    st.sampled_from(["complete", "continue", "detach", "repeat", "attach", "count", "leave"]),
    st.sampled_from(["anna", "owner", "marked"]),
    st.integers(0, 200),
)


@settings(max_examples=200 * SCALE, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.data(),
    st.lists(kinds, min_size=1, max_size=4),
    st.lists(steps, min_size=1, max_size=12),
)
def test_no_request_of_another_reaches_a_subscription(
    data: st.DataObject, listed: list[PayerKind], actions: list[Any]
) -> None:
    """Whatever fails, overflows, continues, is repeated, counted or attached to."""
    outcomes = st.lists(failures, max_size=12)
    engines = {f"p{n}": FakeEngine(kind, data.draw(outcomes)) for n, kind in enumerate(listed)}
    names = st.lists(st.sampled_from([*engines, "gone"]), max_size=4).map(tuple)
    drawn = st.builds(KeyUse, st.just(KeyOwner.OTHER), names, st.booleans())
    uses = {
        "anna": data.draw(drawn),
        "owner": KeyUse(KeyOwner.MINE, data.draw(names), data.draw(st.booleans())),
        "marked": KeyUse(KeyOwner.UNMARKED, data.draw(names), data.draw(st.booleans())),
    }
    time = 0.0
    payers = payers_of(
        *(
            payer(name, kind, engines[name], overflow=not kind.subscription)
            for name, kind in zip(engines, listed, strict=True)
        ),
        use_of=uses.__getitem__,
        now=lambda: time,
    )

    wrongly: list[str] = []

    def reach(engine: FakeEngine) -> Callable[[], None]:
        """What happens while a request waits: now and then the operator takes a key from itself."""

        def waited() -> None:
            if data.draw(st.booleans()):
                uses[data.draw(st.sampled_from(["marked", "owner"]))] = data.draw(drawn)

        return waited

    for engine in engines.values():
        engine.waited = reach(engine)
        engine.seen = lambda engine, request: wrongly.extend(
            [request.caller]
            if engine.subscription and uses[request.caller].owner is KeyOwner.OTHER
            else []
        )

    async def act() -> None:
        nonlocal time
        for action, caller, seconds in actions:
            time += seconds
            request = CompletionRequest((user("Hello"),), caller=caller, owner=caller)
            with suppress(BridgeError):
                await do(payers, action, request)

    asyncio.run(act())
    logins = [engine for engine in engines.values() if engine.subscription]
    assert not [r for engine in logins for r in engine.asked if r.caller == "anna"]
    assert wrongly == []
    # The owner's own use goes to one login at most, whatever its list names.
    for caller in ("owner", "marked"):
        reached = [e for e in logins if any(r.caller == caller for r in e.asked)]
        assert len(reached) <= 1


async def do(payers: Payers, action: str, request: CompletionRequest) -> None:
    match action:
        case "complete":
            async with aclosing(payers.complete(request)) as events:
                assert [event async for event in events]
        case "continue":
            turns = (*request.messages, assistant("hi"), user("And?"))
            async with aclosing(payers.complete(replace(request, messages=turns))) as events:
                assert [event async for event in events]
        case "detach":
            answer = await payers.detach(replace(request, request_id="d", client_request_id="d"))
            async with aclosing(answer.events()) as numbered:
                assert [event async for event in numbered]
        case "repeat":
            await payers.detach(replace(request, request_id="e", client_request_id="d"))
        case "attach":
            # Of the other one too: by its id alone it is not found.
            other = await payers.attach(request.owner, "d")
            assert other.request_id in ("d", "e")
        case "count":
            assert await payers.count_tokens(request) == 7
        case "leave":
            async with aclosing(payers.complete(request)) as events:
                await anext(events)
