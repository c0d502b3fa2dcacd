"""Which new conversations are held open: those of callers that continue them."""

from __future__ import annotations

from bridge.core.engine.parking_policy import UNFOLLOWED, ParkingPolicy

SCRIPT, CHAT = "script", "chat"


def ended(policy: ParkingPolicy, kind: str, count: int) -> list[bool]:
    return [policy.worth_holding(kind, f"{kind} {n}") for n in range(count)]


def test_a_caller_that_never_continues_is_not_waited_for() -> None:
    policy = ParkingPolicy()
    assert ended(policy, SCRIPT, UNFOLLOWED + 2) == [True] * UNFOLLOWED + [False] * 2


def test_a_caller_that_continues_one_of_them_is_waited_for_again() -> None:
    policy = ParkingPolicy()
    ended(policy, CHAT, UNFOLLOWED + 1)
    # Also with one that was not held open.
    assert policy.continues(CHAT, f"{CHAT} {UNFOLLOWED}")
    assert policy.worth_holding(CHAT, "next")


def test_an_unknown_conversation_has_no_progress() -> None:
    policy = ParkingPolicy()
    ended(policy, CHAT, UNFOLLOWED)
    assert not policy.continues(CHAT, "one with examples in its history")
    assert not policy.continues(CHAT, None)
    assert not policy.worth_holding(CHAT, "next")


def test_each_kind_is_judged_by_itself() -> None:
    policy = ParkingPolicy()
    ended(policy, SCRIPT, UNFOLLOWED)
    assert policy.worth_holding(CHAT, "first")
    assert not policy.continues(CHAT, f"{SCRIPT} 0")


def test_what_is_remembered_is_bounded() -> None:
    policy = ParkingPolicy()
    for kind in range(1000):
        ended(policy, str(kind), 2)
    assert len(policy._left) < 1000
    ended(policy, SCRIPT, 1000)
    assert len(policy._left[SCRIPT]) < 1000
    # The latest are the most likely to be continued.
    assert policy.continues(SCRIPT, f"{SCRIPT} 999")
