"""The policy: examples of each rule, and properties of every decision."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.pool.policy import (
    Decision,
    PoolLimits,
    ProcessView,
    RequestView,
    State,
    decide,
    fair_order,
)
from tests.support.harness import SCALE

LIMITS = PoolLimits(pool_size=2, max_processes=5, spares=1, park_seconds=100, idle_seconds=1000)
BARE = replace(LIMITS, spares=0)


def process(id: int, state: State, profile: str | None = None, **more: object) -> ProcessView:
    return ProcessView(id, state, profile, **more)  # type: ignore[arg-type]


def test_the_parked_conversation_is_taken_before_anything_else() -> None:
    processes = [
        process(1, State.IDLE, "p", used_at=9),
        process(2, State.PARKED, "p", conversation="c"),
        process(3, State.BLANK),
    ]
    decision = decide(processes, [RequestView(1, "p", continues="c")], LIMITS)
    assert decision.assign == ((1, 2),)


def test_a_conversation_that_is_just_being_parked_is_waited_for() -> None:
    processes = [
        process(1, State.IDLE, "p"),
        process(2, State.RESETTING, "p", conversation="c"),
    ]
    assert decide(processes, [RequestView(1, "p", continues="c")], LIMITS).assign == ()


def test_the_hottest_session_with_the_profile_is_taken() -> None:
    processes = [
        process(1, State.IDLE, "p", used_at=1),
        process(2, State.IDLE, "p", used_at=3),
        process(3, State.IDLE, "q", used_at=9),
    ]
    assert decide(processes, [RequestView(1, "p")], LIMITS).assign == ((1, 2),)


def test_a_blank_is_taken_where_no_session_has_the_profile() -> None:
    processes = [process(1, State.IDLE, "q"), process(2, State.BLANK)]
    assert decide(processes, [RequestView(1, "p")], LIMITS).assign == ((1, 2),)


def test_a_session_that_is_being_reset_is_waited_for_rather_than_a_start() -> None:
    processes = [process(n, State.RESETTING, "p") for n in (1, 2)]
    assert decide(processes, [RequestView(1, "p")], BARE) == Decision()


def test_a_parked_conversation_of_the_profile_is_wiped_before_a_request_waits_for_a_start() -> None:
    processes = [
        process(1, State.PARKED, "p", conversation="a", used_at=5),
        process(2, State.PARKED, "p", conversation="b", used_at=3),
        process(3, State.PARKED, "p", conversation="c", used_at=1, waits_for_tools=True),
    ]
    decision = decide(processes, [RequestView(1, "p")], BARE, now=10)
    assert decision.reset == (2,), "the longest-parked finished one goes first"


def test_with_no_room_the_coldest_empty_session_makes_way_then_the_longest_parked() -> None:
    idle = process(1, State.IDLE, "q", used_at=9)
    finished = [process(n, State.PARKED, "q", conversation=str(n), used_at=n) for n in (2, 3)]
    waits = process(4, State.PARKED, "q", conversation="w", used_at=1, waits_for_tools=True)
    limits = replace(BARE, max_processes=4)
    request = [RequestView(1, "p")]
    assert decide([idle, *finished, waits], request, limits, now=10).close == (1,)
    more = process(5, State.PARKED, "q", conversation="5", used_at=5)
    assert decide([*finished, waits, more], request, limits, now=10).close == (2,)
    busy = [process(n, State.STARTING) for n in (6, 7)]
    assert not decide([*busy, waits], request, replace(BARE, max_processes=3), now=10).close


def test_a_request_that_cannot_be_met_keeps_its_turn() -> None:
    processes = [process(1, State.RUNNING, "p"), process(2, State.IDLE, "q")]
    waiting = [RequestView(1, "p", "a"), RequestView(2, "q", "a")]
    assert decide(processes, waiting, LIMITS).assign == ()


def test_the_caller_with_the_fewest_turns_is_next() -> None:
    waiting = [
        RequestView(1, "p", "greedy"),
        RequestView(2, "p", "greedy"),
        RequestView(3, "p", "modest"),
    ]
    assert [r.id for r in fair_order(waiting)] == [1, 3, 2]
    assert [r.id for r in fair_order(waiting, Counter({"greedy": 1}))] == [3, 1, 2]


def test_of_two_callers_without_a_turn_the_one_whose_last_is_longest_ago_is_next() -> None:
    waiting = [RequestView(1, "p", "a"), RequestView(2, "p", "a"), RequestView(3, "p", "b")]
    assert [r.id for r in fair_order(waiting, served={"a": 7, "b": 3})] == [3, 1, 2]
    assert [r.id for r in fair_order(waiting, served={"a": 7})] == [3, 1, 2]


def test_a_conversation_parked_for_too_long_is_wiped() -> None:
    parked = process(1, State.PARKED, "p", conversation="c", used_at=50)
    assert decide([parked], [], BARE, now=149).reset == ()
    assert decide([parked], [], BARE, now=149).look_again_at == 150
    assert decide([parked], [], BARE, now=150).reset == (1,)


def test_unused_processes_above_the_minimum_are_ended() -> None:
    processes = [process(n, State.IDLE, "p", used_at=n) for n in range(4)]
    processes.append(process(9, State.BLANK))
    decision = decide(processes, [], LIMITS, now=1002)
    assert decision.close == (0, 1), "three are the minimum"
    assert not decide(processes, [], LIMITS, now=900).close


def test_spares_are_refilled_one_after_another() -> None:
    decision = decide([], [], LIMITS)
    assert decision.start == 1
    starting = [process(1, State.STARTING)]
    assert decide(starting, [], LIMITS).start == 0
    assert decide(starting, [], replace(LIMITS, starts_at_once=2)).start == 1


def test_an_empty_session_is_kept_ready_for_the_last_caller() -> None:
    parked = process(1, State.PARKED, "p", conversation="c", used_at=5)
    older = process(2, State.PARKED, "p", conversation="d", used_at=3)
    blanks = [process(n, State.BLANK) for n in (8, 9)]
    assert decide([parked, *blanks], [], LIMITS, now=6).prepare == ((8, 1),)
    ready = process(3, State.IDLE, "p")
    assert not decide([parked, ready, *blanks], [], LIMITS, now=6).prepare
    coming = process(3, State.PREPARING, "p")
    assert not decide([parked, coming, *blanks], [], LIMITS, now=6).prepare
    # The spare is not used for it: another one is started first.
    assert decide([parked, older, blanks[0]], [], LIMITS, now=6).start == 1
    # Without room for that, the conversation parked longest makes way, but never the only one.
    full = replace(LIMITS, max_processes=3, spares=1)
    assert decide([parked, older, blanks[0]], [], full, now=6).reset == (2,)
    other = process(2, State.PARKED, "q", conversation="d", used_at=3)
    assert not decide([parked, other, blanks[0]], [], full, now=6).reset


def test_a_conversation_does_not_make_way_for_a_session_without_a_request() -> None:
    # The spare has just ended: there is room for another, and for nothing else.
    parked = process(1, State.PARKED, "p", conversation="c")
    decision = decide([parked], [], PoolLimits(1, 2, 1), now=1)
    assert (decision.close, decision.start) == ((), 1)


@pytest.mark.parametrize("wrong", [{"pool_size": 0}, {"spares": -1}, {"max_processes": 1}])
def test_impossible_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        replace(LIMITS, **wrong)


# Properties

PROFILES = st.sampled_from(["p", "q", "r"])
CONVERSATIONS = st.sampled_from(["c1", "c2", "c3"])
CALLERS = st.sampled_from(["a", "b"])


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[ProcessView], list[RequestView], PoolLimits, float]:
    pool_size = draw(st.integers(1, 4))
    spares = draw(st.integers(0, 2))
    limits = PoolLimits(
        pool_size,
        draw(st.integers(pool_size, pool_size + spares + 3)),
        spares,
        park_seconds=draw(st.sampled_from([0.5, 10.0])),
        idle_seconds=draw(st.sampled_from([0.5, 10.0])),
        starts_at_once=draw(st.integers(1, 2)),
    )
    processes = []
    running = 0
    for id in range(draw(st.integers(0, limits.max_processes))):
        state = draw(st.sampled_from(State))
        if state is State.RUNNING:
            running += 1
            if running > pool_size:
                continue
        has_profile = state not in (State.STARTING, State.BLANK, State.CLOSING)
        parked = state is State.PARKED or (state is State.RESETTING and draw(st.booleans()))
        processes.append(
            ProcessView(
                id,
                state,
                draw(PROFILES) if has_profile else None,
                draw(st.floats(0, 20)),
                draw(CONVERSATIONS) if parked else None,
                draw(st.booleans()) if parked else False,
                draw(CALLERS) if state is State.RUNNING else "",
            )
        )
    waiting = [
        RequestView(id, draw(PROFILES), draw(CALLERS), draw(st.none() | CONVERSATIONS))
        for id in range(draw(st.integers(0, 6)))
    ]
    return processes, waiting, limits, 20.0


@settings(max_examples=300 * SCALE, deadline=None)
@given(pools())
def test_every_decision_keeps_the_rules(
    case: tuple[list[ProcessView], list[RequestView], PoolLimits, float],
) -> None:
    processes, waiting, limits, now = case
    by_id = {p.id: p for p in processes}
    requests = {r.id: r for r in waiting}
    decision = decide(processes, waiting, limits, now)

    leased = [process_id for _, process_id in decision.assign]
    assert len(set(leased)) == len(leased), "never two leases on a process"
    served = [request_id for request_id, _ in decision.assign]
    assert len(set(served)) == len(served), "never two processes for a request"
    prepared = [blank_id for blank_id, _ in decision.prepare]
    touched = [*leased, *decision.reset, *decision.close, *prepared]
    assert len(set(touched)) == len(touched), "one thing at a time is done with a process"

    running = sum(p.state is State.RUNNING for p in processes)
    assert running + len(leased) <= limits.pool_size, "never above POOL_SIZE turns"
    assert len(processes) + decision.start <= limits.max_processes
    starting = sum(p.state is State.STARTING for p in processes)
    if decision.start:
        assert starting + decision.start <= limits.starts_at_once

    for request_id, process_id in decision.assign:
        request, chosen = requests[request_id], by_id[process_id]
        if chosen.state is State.PARKED:
            assert chosen.conversation == request.continues
        elif chosen.state is State.IDLE:
            assert chosen.profile == request.profile
        else:
            assert chosen.state is State.BLANK
    assert all(by_id[n].state is State.PARKED for n in decision.reset)
    for blank_id, like_id in decision.prepare:
        assert by_id[blank_id].state is State.BLANK
        assert by_id[like_id].profile is not None
    endable = (State.BLANK, State.IDLE, State.PARKED)
    assert all(by_id[n].state in endable for n in decision.close)

    # First come first served per key: for a request that got a process, none of the earlier ones of
    # its key was pushed out of the free turns.
    due = fair_order(waiting, Counter(p.caller for p in processes if p.state is State.RUNNING))
    turns = due[: max(limits.pool_size - running, 0)]
    assert {r.id for r in turns} >= set(served)
    for caller in ("a", "b"):
        own = [r.id for r in waiting if r.caller == caller]
        own_turns = [r.id for r in turns if r.caller == caller]
        assert own_turns == own[: len(own_turns)]

    # Parked ones are evicted before a request waits for a process that has not started.
    unserved = [r for r in turns if r.id not in served]
    if unserved and not decision.start and not starting:
        held = [p for p in processes if p.state in (State.IDLE, State.PARKED)]
        free = [p.id for p in held if p.id not in touched]
        passing = (State.PREPARING, State.RESETTING, State.CLOSING)
        coming = [p for p in processes if p.state in passing]
        something = decision.reset or decision.close or leased
        assert not free or coming or something, (processes, waiting, limits)


@settings(max_examples=100 * SCALE, deadline=None)
@given(pools())
def test_every_request_is_served_in_the_end(  # noqa: C901
    case: tuple[list[ProcessView], list[RequestView], PoolLimits, float],
) -> None:
    """Execute the decisions step by step, and check that no caller starves."""
    processes, waiting, limits, now = case
    pool = {p.id: p for p in processes}
    queue = list(waiting)
    ids = iter(range(1_000, 10_000))
    for _ in range(200):
        if not queue:
            return
        decision = decide(list(pool.values()), queue, limits, now)
        now += 0.01
        for request_id, process_id in decision.assign:
            request = next(r for r in queue if r.id == request_id)
            queue.remove(request)
            pool[process_id] = replace(
                pool[process_id],
                state=State.RUNNING,
                profile=request.profile,
                caller=request.caller,
                conversation=None,
            )
        for process_id in decision.reset:
            pool[process_id] = replace(pool[process_id], state=State.RESETTING, conversation=None)
        for process_id in decision.close:
            pool[process_id] = replace(pool[process_id], state=State.CLOSING)
        for blank_id, like_id in decision.prepare:
            pool[blank_id] = replace(
                pool[blank_id], state=State.PREPARING, profile=pool[like_id].profile
            )
        for _ in range(decision.start):
            id = next(ids)
            pool[id] = ProcessView(id, State.STARTING, used_at=now)
        # Everything in progress ends, including each running turn.
        for id, view in list(pool.items()):
            match view.state:
                case State.STARTING:
                    pool[id] = replace(view, state=State.BLANK, used_at=now)
                case State.RUNNING:
                    pool[id] = replace(view, state=State.RESETTING, used_at=now)
                case State.RESETTING:
                    parked = view.conversation is not None
                    pool[id] = replace(view, state=State.PARKED if parked else State.IDLE)
                case State.PREPARING:
                    pool[id] = replace(view, state=State.IDLE)
                case State.CLOSING:
                    del pool[id]
                case _:
                    pass
    raise AssertionError(f"still waiting: {queue}")
