"""Who may pay for whose request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.access.keys import KeyOwner, KeyUse
from bridge.core.contract.errors import PermissionDeniedError
from bridge.core.payers.choice import Option, list_problem, payers_for, usual

MINE, WORK = Option("mine", subscription=True), Option("work", subscription=True)
TEAM, CLOUD = Option("team", subscription=False), Option("cloud", subscription=False)
ALL = (MINE, WORK, TEAM, CLOUD)


def own(*payers: str, overflow: bool = False) -> KeyUse:
    return KeyUse(KeyOwner.MINE, payers, overflow)


def others(*payers: str) -> KeyUse:
    return KeyUse(KeyOwner.OTHER, payers)


@pytest.mark.parametrize(
    ("use", "payers"),
    [
        (own(), ("mine",)),
        (KeyUse(), ("mine",)),
        (own("work"), ("work",)),
        (own("team", "mine"), ("team", "mine")),
        (own("mine", "team"), ("mine",)),
        (own("mine", "team", overflow=True), ("mine", "team")),
        (own("mine", "work", "team", overflow=True), ("mine", "team")),
        (others("team", "cloud"), ("team", "cloud")),
        (others("mine", "cloud"), ("cloud",)),
        (own("gone", "team"), ("team",)),
    ],
)
def test_who_may_answer(use: KeyUse, payers: tuple[str, ...]) -> None:
    assert payers_for(use, ALL) == payers


@pytest.mark.parametrize(
    ("use", "reason", "remedy"),
    [
        (others("mine"), "LOGIN_NOT_SHARED", "bridge keys edit NAME --payer"),
        (others(), "LOGIN_NOT_SHARED", "--mine"),
        (others("gone"), "PAYER_NOT_FOUND", "bridge keys edit NAME"),
        (own("gone"), "PAYER_NOT_FOUND", "gone"),
    ],
)
def test_a_refusal_has_its_reason_and_its_remedy(use: KeyUse, reason: str, remedy: str) -> None:
    with pytest.raises(PermissionDeniedError) as caught:
        payers_for(use, ALL)
    assert caught.value.reason == reason
    assert remedy in caught.value.message


def test_the_owner_may_share_a_login_outright() -> None:
    assert payers_for(others("mine"), ALL, share_login=True) == ("mine",)


def test_the_usual_payers_are_the_first_and_those_for_overflow() -> None:
    paid = Option("paid", subscription=False, overflow=True)
    assert usual((MINE, WORK, TEAM, paid)) == ("mine", "paid")
    assert payers_for(own(), (MINE, TEAM, paid)) == ("mine", "paid")


names = st.sampled_from(["mine", "work", "team", "cloud", "gone"])


@given(
    owner=st.sampled_from(KeyOwner),
    listed=st.lists(names, max_size=5),
    overflow=st.booleans(),
    options=st.lists(st.sampled_from(ALL), unique=True),
)
def test_no_list_reaches_a_login_that_it_must_not(
    owner: KeyOwner, listed: list[str], overflow: bool, options: list[Option]
) -> None:
    use = KeyUse(owner, tuple(listed), overflow)
    try:
        found = payers_for(use, options)
    except PermissionDeniedError:
        return
    logins = [name for name in found if name in ("mine", "work")]
    assert len(logins) <= (owner is not KeyOwner.OTHER)
    if logins and not overflow:
        assert found[-1] == logins[0], "nothing is billed unasked"
    assert found


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        (own("mine"), ""),
        (own("team", "mine"), ""),
        (own("mine", "team", overflow=True), ""),
        (others("team", "cloud"), ""),
        (others("gone"), "the payers are mine, work, team, cloud"),
        (others("team", "team"), "twice"),
        (others("team", "mine"), "add --mine"),
        (own("mine", "work"), "one at most"),
        (own("mine", "team"), "add --overflow"),
    ],
)
def test_what_a_key_cannot_name(use: KeyUse, problem: str) -> None:
    found = list_problem(use, ALL)
    assert problem in found
    assert bool(found) is bool(problem)
