"""How things stand, from what is known of the processes and of the login. Pure."""

from __future__ import annotations

from bridge.core.claude import Facts
from bridge.core.contract import HealthStatus

LOG_IN = (
    "Claude Code is not logged in: run `claude` and type /login. The next request after that is "
    "answered; nothing has to be restarted."
)
LOGIN_REFUSED = (
    "The Anthropic API does not accept Claude Code's login any more: run `claude` and type /login. "
    "The next request after that is answered; nothing has to be restarted."
)
OVERAGE = (
    "The plan is used up, and paid extra usage would begin: nothing is asked until the "
    "limit is lifted (BRIDGE_STOP_BEFORE_OVERAGE)."
)


def account_of(facts: Facts | None) -> str:
    """Where the login comes from, in the CLI's word; `none` without one."""
    if facts is None:
        return "none"
    account = facts.account
    for key in ("tokenSource", "apiKeySource"):
        source = account.get(key)
        if source and source != "none":
            return str(source)
    if plan := account.get("subscriptionType"):
        # A login by /login: the CLI names no source of a token then.
        return str(plan)
    provider = account.get("apiProvider")
    return str(provider) if provider and provider != "firstParty" else "none"


def status_of(
    facts: Facts | None,
    *,
    draining: bool,
    usable: bool,
    trouble: str,
    login_accepted: bool | None,
    overage_ahead: bool = False,
) -> tuple[HealthStatus, str]:
    """The status, and what is to be said of it; see `Health`.

    `usable` says whether there is a process that can be expected to work, `trouble` what is
    wrong with the processes, and `login_accepted` what the last request has shown: None before
    the first. `overage_ahead` says whether only paid extra usage would answer now, and is not
    wanted.
    """
    if draining:
        return HealthStatus.DRAINING, "The server is shutting down."
    if trouble and not usable:
        return HealthStatus.UNAVAILABLE, trouble
    if facts is None:
        return HealthStatus.STARTING, ""
    if login_accepted is False:
        return HealthStatus.NOT_LOGGED_IN, LOGIN_REFUSED if account_of(facts) != "none" else LOG_IN
    if login_accepted is None and account_of(facts) == "none":
        return HealthStatus.NOT_LOGGED_IN, LOG_IN
    if overage_ahead:
        return HealthStatus.OVERAGE_AHEAD, OVERAGE
    return HealthStatus.OK, trouble
