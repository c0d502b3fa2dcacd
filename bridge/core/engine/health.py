"""Whether completions work, from what is known of the processes and of the login."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.core.claude import ControlError, Facts, ProcessGoneError
from bridge.core.contract import DrainingError, HealthStatus
from bridge.core.telemetry import kind_of

logger = logging.getLogger(__name__)

LOG_IN = (
    "Claude Code is not logged in: run `claude` and type /login. The next request after that is "
    "answered; nothing has to be restarted."
)
NEXT_REQUEST = "The next request after that is answered; nothing has to be restarted."
OVERAGE = (
    "The plan is used up, and paid extra usage would begin: nothing is asked until the "
    "limit is lifted (BRIDGE_STOP_BEFORE_OVERAGE)."
)


def account_of(facts: Facts | None) -> str:
    """Where the login comes from, in the CLI's own word; `none` without one."""
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
    login_trouble: str = "",
    overage_ahead: bool = False,
) -> tuple[HealthStatus, str]:
    """The status, and its detail; see `Health`.

    `usable`: whether there is a process that can be expected to work. `trouble`: what is wrong
    with the processes. `login_accepted`: what the last request has shown, None before the first;
    `login_trouble`: the error that it ended in, where that was the login's fault.
    `overage_ahead`: whether only paid extra usage would answer now, and is not wanted.
    """
    if draining:
        return HealthStatus.DRAINING, "The server is shutting down."
    if trouble and not usable:
        return HealthStatus.UNAVAILABLE, trouble
    if facts is None:
        return HealthStatus.STARTING, ""
    if login_accepted is False:
        refused = account_of(facts) != "none" and login_trouble
        return HealthStatus.NOT_LOGGED_IN, f"{login_trouble} {NEXT_REQUEST}" if refused else LOG_IN
    if login_accepted is None and account_of(facts) == "none":
        return HealthStatus.NOT_LOGGED_IN, LOG_IN
    if overage_ahead:
        return HealthStatus.OVERAGE_AHEAD, OVERAGE
    return HealthStatus.OK, trouble


class AccountState:
    """What is known of Claude Code and of its login, from the first process on."""

    def __init__(
        self,
        on_change: Callable[[], None],
        on_facts: Callable[[Facts], None],
        ask: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`on_facts` is called with what Claude Code reports, when it is new.

        `ask` has a new process report; it raises what `Session.spawn` does.
        """
        self._on_change = on_change
        self._on_facts = on_facts
        self._ask = ask
        self._settled = asyncio.Event()
        self._relearning: asyncio.Task[None] | None = None
        self.facts: Facts | None = None
        """None until a process has been initialised."""
        self.login_accepted: bool | None = None
        """Whether the API accepted the login of the last request; None before the first."""
        self.login_trouble = ""
        """Why not, and what the operator has to do about it."""

    async def known(self) -> None:
        """Wait until Claude Code has reported its models; raises DrainingError."""
        await self._settled.wait()
        if self.facts is None:
            raise DrainingError("The server is shutting down.")

    async def aclose(self) -> None:
        """Ask no more, and let nobody wait for a first process any longer."""
        self._settled.set()
        if self._relearning is not None:
            self._relearning.cancel()
            await asyncio.wait((self._relearning,))

    def learn(self, facts: Facts | None) -> None:
        """Take in what a process has reported."""
        if facts is None or facts == self.facts:
            return
        self.facts = facts
        self._on_facts(facts)
        self._settled.set()
        self._on_change()

    def login_works(self) -> None:
        """The API accepts the login, as its last answer has shown."""
        before = self.login_accepted
        self._note_login(accepted=True)
        if before is False or (before is None and self.account == "none"):
            # Somebody has logged in, and what the processes reported is older than that.
            self.relearn()

    def login_refused(self, trouble: str) -> None:
        """The last request failed by the login's fault; `trouble` says how to mend it."""
        self._note_login(accepted=False, trouble=trouble)

    def _note_login(self, *, accepted: bool, trouble: str = "") -> None:
        if (accepted, trouble) != (self.login_accepted, self.login_trouble):
            self.login_accepted, self.login_trouble = accepted, trouble
            self._on_change()

    def relearn(self) -> None:
        """Learn from a new process which account it uses, and what it offers; in a task."""
        if self._relearning is None or self._relearning.done():
            self._relearning = asyncio.create_task(self._ask_anew())

    async def _ask_anew(self) -> None:
        try:
            await self._ask()
        except (OSError, ControlError, ProcessGoneError) as error:
            logger.warning("the account could not be asked for: %s", kind_of(error))

    @property
    def account(self) -> str:
        """Where the login comes from; see `account_of`."""
        return account_of(self.facts)

    @property
    def logged_in(self) -> bool:
        """Whether there is a login, and it works as far as is known."""
        return self.account != "none" if self.login_accepted is None else self.login_accepted

    @property
    def subscription(self) -> str:
        """The name of the account's plan, where Claude Code reports it."""
        return str(self.facts.account.get("subscriptionType") or "") if self.facts else ""

    @property
    def cli_version(self) -> str:
        """The version of Claude Code; empty until it is known."""
        return self.facts.version if self.facts else ""
