"""Which new conversations are held open: those of callers who go on with theirs."""

from __future__ import annotations

from bridge.core.engine.parking_policy import UNFOLLOWED, ParkingPolicy

SCRIPT, CHAT = "script", "chat"


def ended(habits: ParkingPolicy, kind: str, count: int) -> list[bool]:
    return [habits.worth_holding(kind, f"{kind} {n}") for n in range(count)]


def test_whoever_never_goes_on_is_not_waited_for() -> None:
    habits = ParkingPolicy()
    assert ended(habits, SCRIPT, UNFOLLOWED + 2) == [True] * UNFOLLOWED + [False] * 2


def test_whoever_goes_on_with_one_of_them_is_waited_for_again() -> None:
    habits = ParkingPolicy()
    ended(habits, CHAT, UNFOLLOWED + 1)
    # Also with one that was not held open.
    assert habits.goes_on(CHAT, f"{CHAT} {UNFOLLOWED}")
    assert habits.worth_holding(CHAT, "next")


def test_a_conversation_that_is_not_known_says_nothing() -> None:
    habits = ParkingPolicy()
    ended(habits, CHAT, UNFOLLOWED)
    assert not habits.goes_on(CHAT, "one with examples in its history")
    assert not habits.goes_on(CHAT, None)
    assert not habits.worth_holding(CHAT, "next")


def test_each_kind_has_habits_of_its_own() -> None:
    habits = ParkingPolicy()
    ended(habits, SCRIPT, UNFOLLOWED)
    assert habits.worth_holding(CHAT, "first")
    assert not habits.goes_on(CHAT, f"{SCRIPT} 0")


def test_what_is_remembered_is_bounded() -> None:
    habits = ParkingPolicy()
    for kind in range(1000):
        ended(habits, str(kind), 2)
    assert len(habits._left) < 1000
    ended(habits, SCRIPT, 1000)
    assert len(habits._left[SCRIPT]) < 1000
    # The latest are those that are likely to be gone on with.
    assert habits.goes_on(SCRIPT, f"{SCRIPT} 999")
