"""Which payers may answer a request, by whose request it is. Pure.

A subscription login serves its owner only. That is decided here, once, for every request of every
API: no other function chooses among payers that were not returned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.core.access import KeyUse
from bridge.core.contract import PermissionDeniedError

NOT_SHARED: Final = (
    "This API key is not marked as belonging to the owner of the server, and a subscription login "
    "serves its owner only. The operator of this server can give the key another payer, such as an "
    "API key (bridge keys edit NAME --payer PAYER), or mark it as their own (bridge keys edit NAME "
    "--mine)."
)


@dataclass(frozen=True, slots=True)
class Option:
    """A payer, as the choice sees it."""

    name: str
    subscription: bool
    """Whether it is a subscription login, or may be one."""
    overflow: bool = False
    """Whether it may always answer when a login before it cannot."""


def usual(options: Sequence[Option]) -> tuple[str, ...]:
    """Return the owner's payers where a key names none: the first, then those for overflow."""
    return tuple(
        option.name for number, option in enumerate(options) if number == 0 or option.overflow
    )


def payers_for(
    use: KeyUse, options: Sequence[Option], *, share_login: bool = False
) -> tuple[str, ...]:
    """Return the payers that may answer, in order; raises PermissionDeniedError if none may."""
    known = {option.name: option for option in options}
    names = use.payers or (usual(options) if use.mine or share_login else ())
    if not names:
        raise PermissionDeniedError(NOT_SHARED, reason="LOGIN_NOT_SHARED")
    listed = [known[name] for name in names if name in known]
    if not listed:
        raise PermissionDeniedError(
            f"This API key names the payer {', '.join(names)}, which this server does not have. "
            "The operator can restart the server if this payer was added since its start, or give "
            "the key another one: bridge keys edit NAME --payer PAYER.",
            reason="PAYER_NOT_FOUND",
        )
    if not (use.mine or share_login):
        listed = [option for option in listed if not option.subscription]
        if not listed:
            raise PermissionDeniedError(NOT_SHARED, reason="LOGIN_NOT_SHARED")
    return tuple(_usable(listed, overflow=use.overflow))


def _usable(listed: Sequence[Option], *, overflow: bool) -> list[str]:
    """Leave out what a list does not reach: a second login, and what would cost money unasked."""
    found: list[str] = []
    login = False
    for option in listed:
        if option.subscription and login:
            continue
        if login and not (overflow or option.overflow):
            continue
        login = login or option.subscription
        found.append(option.name)
    return found


def list_problem(use: KeyUse, options: Sequence[Option]) -> str:
    """Return why a key cannot have these payers, with the remedy; empty if it can."""
    known = {option.name: option for option in options}
    for name in use.payers:
        if name not in known:
            names = ", ".join(known) or "none: bridge payers add NAME"
            return f"no payer is named {name}; the payers are {names}"
    if len(set(use.payers)) < len(use.payers):
        return "a payer is named twice"
    logins = [name for name in use.payers if known[name].subscription]
    if logins and not use.mine:
        return (
            f"{logins[0]} is a subscription login, which serves its owner only: for your own key, "
            "add --mine; for someone else's, name a payer with an API key or a cloud provider"
        )
    if len(logins) > 1:
        return (
            f"{' and '.join(logins)} are both subscription logins: a list has one at most, since "
            "going from one subscription to another would stretch their limits"
        )
    billed = [name for name in use.payers if not known[name].subscription]
    unasked = [name for name in billed if not (use.overflow or known[name].overflow)]
    if logins and unasked and use.payers.index(logins[0]) < use.payers.index(unasked[-1]):
        return (
            f"{unasked[-1]} is billed and follows the login {logins[0]}: add --overflow if it may "
            "answer, at a cost, when the login cannot"
        )
    return ""
