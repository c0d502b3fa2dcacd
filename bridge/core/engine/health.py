"""Whether completions work, based on the state of the processes and the login."""

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
    "Claude Code is not logged in: run `bridge login`. The next request will then work; no restart "
    "is needed."
)
_NOT_BILLED = frozenset({"none", "claude.ai", "CLAUDE_CODE_OAUTH_TOKEN"})
"""Sources of a login that are none, or a subscription's."""
NEXT_REQUEST = "The next request will then work; no restart is needed."
OVERAGE = (
    "The usage limit is reached. The server pauses until it resets instead of using paid "
    "extra usage (BRIDGE_STOP_BEFORE_OVERAGE)."
)
USED_UP = "The account's usage limit is reached. Requests are answered again when it resets."


def account_of(facts: Facts | None) -> str:
    """Return the source of the login, in the CLI's own word; `none` if there is none."""
    if facts is None:
        return "none"
    account = facts.account
    for key in ("tokenSource", "apiKeySource"):
        source = account.get(key)
        if source and source != "none":
            return str(source)
    if plan := account.get("subscriptionType"):
        # After a /login the CLI reports no source of a token.
        return str(plan)
    provider = account.get("apiProvider")
    return str(provider) if provider and provider != "firstParty" else "none"


def may_be_subscription(facts: Facts | None) -> bool:
    """Return whether the account may be a subscription; only certainty to the contrary counts.

    An API key, also of a helper command, is used before a login, and a cloud provider instead.
    """
    if facts is None:
        return True
    account = facts.account
    if account.get("apiProvider") not in (None, "", "firstParty"):
        return False
    nothing = (None, "", "none")
    if account.get("subscriptionType") or account.get("tokenSource") not in nothing:
        return True
    return account.get("apiKeySource") in nothing


def status_of(
    facts: Facts | None,
    *,
    draining: bool,
    usable: bool,
    trouble: str,
    login_accepted: bool | None,
    login_trouble: str = "",
    overage_ahead: bool = False,
    used_up: bool = False,
) -> tuple[HealthStatus, str]:
    """Return the status and its detail; see `Health`.

    `usable`: whether a process is expected to work. `trouble`: a problem with the processes.
    `login_accepted`: the result of the last request, None before the first; `login_trouble`: its
    error, if the login caused it. `overage_ahead`: whether only paid extra usage would answer now,
    and it is disabled. `used_up`: whether the API refuses every request until a usage limit resets.
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
    if used_up:
        return HealthStatus.USAGE_LIMIT, USED_UP
    return HealthStatus.OK, trouble


class AccountState:
    """What is known about Claude Code and its login, from the first process on."""

    def __init__(
        self,
        on_change: Callable[[], None],
        on_facts: Callable[[Facts], None],
        ask: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`on_facts` is called with new reports of Claude Code.

        `ask` starts a process and returns its report; it raises what `Session.spawn` raises.
        """
        self._on_change = on_change
        self._on_facts = on_facts
        self._ask = ask
        self._settled = asyncio.Event()
        self._relearning: asyncio.Task[None] | None = None
        self.facts: Facts | None = None
        """None until a process was initialised."""
        self.login_accepted: bool | None = None
        """Whether the API accepted the login of the last request; None before the first."""
        self.login_trouble = ""
        """Why it was refused, and the remedy for the operator."""

    async def known(self) -> None:
        """Wait until Claude Code has reported its models; raises DrainingError."""
        await self._settled.wait()
        if self.facts is None:
            raise DrainingError("The server is shutting down.")

    async def aclose(self) -> None:
        """Stop asking, and release everything that waits for a first process."""
        self._settled.set()
        if self._relearning is not None:
            self._relearning.cancel()
            await asyncio.wait((self._relearning,))

    def learn(self, facts: Facts | None) -> None:
        """Record the report of a process."""
        if facts is None or facts == self.facts:
            return
        self.facts = facts
        self._on_facts(facts)
        self._settled.set()
        self._on_change()

    def login_works(self) -> None:
        """Record that the API accepts the login, as its last answer shows."""
        before = self.login_accepted
        self._note_login(accepted=True)
        if before is False or (before is None and self.account == "none"):
            # A user has logged in, and the reports of the processes are older than that.
            self.relearn()

    def login_refused(self, trouble: str) -> None:
        """Record that the login made the last request fail; `trouble` is the remedy."""
        self._note_login(accepted=False, trouble=trouble)

    def login_unknown(self) -> None:
        """Record that the next request may show whether the login works."""
        self._note_login(accepted=None)

    def _note_login(self, *, accepted: bool | None, trouble: str = "") -> None:
        if (accepted, trouble) != (self.login_accepted, self.login_trouble):
            self.login_accepted, self.login_trouble = accepted, trouble
            self._on_change()

    def relearn(self) -> None:
        """Start a task that asks a new process for its account and models."""
        if self._relearning is None or self._relearning.done():
            self._relearning = asyncio.create_task(self._ask_again())

    async def _ask_again(self) -> None:
        try:
            await self._ask()
        except (OSError, ControlError, ProcessGoneError) as error:
            logger.warning("the account could not be determined: %s", kind_of(error))

    @property
    def account(self) -> str:
        """The source of the login; see `account_of`."""
        return account_of(self.facts)

    @property
    def first_party(self) -> bool:
        """Whether it is one of Anthropic's own API, as opposed to a cloud provider's."""
        provider = self.facts.account.get("apiProvider") if self.facts else None
        return provider in (None, "", "firstParty")

    @property
    def billed(self) -> bool:
        """Whether the account is billed for each token; a subscription is not."""
        return not self.subscription and self.account not in _NOT_BILLED

    @property
    def logged_in(self) -> bool:
        """Whether there is a login that works, as far as is known."""
        return self.account != "none" if self.login_accepted is None else self.login_accepted

    @property
    def subscription(self) -> str:
        """The name of the account's plan, if Claude Code reports it."""
        return str(self.facts.account.get("subscriptionType") or "") if self.facts else ""

    @property
    def cli_version(self) -> str:
        """The version of Claude Code; empty until known."""
        return self.facts.version if self.facts else ""
