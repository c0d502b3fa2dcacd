"""The account's usage limits, and stopping before its paid extra usage.

The API reports them with an answer, so the first answer at extra cost cannot always be foreseen.
`overage_ahead` uses what is known before a request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bridge.core.claude import Wire, usage_limits_of
from bridge.core.contract import PlanLimitError, UsageLimits

logger = logging.getLogger(__name__)

NEARLY_FULL: Final = 0.98
"""The used share of a limit from which on no request is started. A request is sent whole, and the
API switches to extra usage silently: the remainder must suffice for the running requests."""

UNKNOWN_RESET_SECONDS: Final = 900.0
"""How long serving stops if the API did not report when the limit resets, in seconds."""

ACCOUNT_LOOK_SECONDS: Final = 5.0
"""How often to check whether another account is logged in while serving is stopped, in seconds."""

_OF_THE_ACCOUNT: Final = frozenset({"", "five_hour", "seven_day", "overage"})
"""Limits of the account as a whole; others are those of one model."""

_PROBE_SECONDS: Final = 1.0


def overage_ahead(limits: UsageLimits, now: float) -> float | None:
    """Return when serving may continue, in Unix seconds; None if the next request costs nothing
    extra.

    It would cost extra if

    - extra usage has started (the limit is reached, but the API still answers), or
    - a limit is almost reached and extra usage is not known to be off.

    Not if extra usage is off: then the API itself refuses requests beyond the plan. Early warnings
    (`allowed_warning`) alone do not count: they already start at 75 or 90 %.
    """
    if limits.using_overage:
        until = _lifted(limits, limits.resets_at)
    elif limits.overage_status == "rejected":
        return None
    else:
        full = [w for w in limits.windows if w.utilization >= NEARLY_FULL and not w.of_model]
        until = max((_lifted(limits, window.resets_at) for window in full), default=now)
    return until if until > now else None


def used_up(limits: UsageLimits, now: float) -> float | None:
    """Return until when the API refuses every request, in Unix seconds; None if it does not."""
    extra = limits.using_overage or limits.overage_status.startswith("allowed")
    if limits.status != "rejected" or extra or limits.limit not in _OF_THE_ACCOUNT:
        return None
    until = _lifted(limits, limits.resets_at)
    return until if until > now else None


def _lifted(limits: UsageLimits, resets_at: float | None) -> float:
    if resets_at is None or resets_at <= limits.said_at:
        return limits.said_at + UNKNOWN_RESET_SECONDS
    return resets_at


class AtLimit(Enum):
    """Whether a server is healthy while its account's usage limit is reached."""

    UNHEALTHY = "unhealthy"
    HEALTHY = "healthy"


class Admission(Enum):
    """How a request is admitted."""

    FREE = "free"
    PROBE = "probe"
    """It finds out the limits after one was lifted: report its end with `probed`."""


class _Probe(Enum):
    NONE = "none"
    RUNNING = "running"
    REPORTED = "reported"
    """It is running, and the API has reported the limits since it started."""


@dataclass(slots=True)
class OveragePolicy:
    """Refuses requests while extra usage would pay for them.

    When the limit resets, one request is admitted, and the others wait for the limits that the API
    reports with it.
    """

    enabled: bool
    _stopped: bool = False
    _probe: _Probe = _Probe.NONE

    def note(self, limits: UsageLimits, now: float) -> None:
        """Record the API's latest report."""
        if self._probe is _Probe.RUNNING:
            self._probe = _Probe.REPORTED
        self._stopped = overage_ahead(limits, now) is not None

    def forget(self) -> None:
        """Forget the reports of another account."""
        self._stopped = False
        self._probe = _Probe.NONE

    def until(self, limits: UsageLimits | None, now: float) -> float | None:
        """Return when serving may continue, in Unix seconds; None if it is not stopped."""
        if not self.enabled or limits is None:
            return None
        return overage_ahead(limits, now)

    def admit(self, limits: UsageLimits | None, now: float) -> Admission:
        """Admit a request, or raise PlanLimitError."""
        if not self.enabled or limits is None:
            return Admission.FREE
        until = overage_ahead(limits, now)
        if until is not None:
            error = PlanLimitError(
                "The account's usage limit is reached, and this server does not use paid extra "
                "usage (BRIDGE_STOP_BEFORE_OVERAGE).",
                reason="OVERAGE_AHEAD",
                retry_after=until - now,
            )
            if until in (limits.resets_at, *(window.resets_at for window in limits.windows)):
                error.tell_reset(until, now)
            raise error
        if not self._stopped:
            return Admission.FREE
        if self._probe is not _Probe.NONE:
            raise PlanLimitError(
                "The usage limit has just been reset; another request is testing it. Try again.",
                reason="OVERAGE_AHEAD",
                retry_after=_PROBE_SECONDS,
                retryable=True,
            )
        self._probe = _Probe.RUNNING
        return Admission.PROBE

    def probed(self, *, answered: bool) -> None:
        """Record the end of the probe. If it was answered and no limits were reported, serving
        continues."""
        if answered and self._probe is _Probe.RUNNING:
            self._stopped = False
        self._probe = _Probe.NONE


class UsageLimitsState:
    """The account's usage limits, as last reported by the API; admits requests by them."""

    def __init__(
        self,
        policy: OveragePolicy,
        now: Callable[[], float],
        on_change: Callable[[], None],
        *,
        account: Callable[[], str],
        on_other_account: Callable[[], None],
    ) -> None:
        """`now` returns Unix seconds, `account` the id of the account that is logged in.

        `on_other_account` is called when serving had stopped for an account that is no longer
        logged in.
        """
        self._policy = policy
        self._now = now
        self._on_change = on_change
        self._account = account
        self._on_other_account = on_other_account
        self._limits_of = ""
        """The account that `latest` was reported for."""
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._answered = False
        """Whether the API has answered since it reported the limits."""
        self.latest: UsageLimits | None = None
        """None until the API has reported something."""

    def note(self, line: Wire, asked_at: float) -> None:
        """Record a `rate_limit_event`. If several processes report, the turn sent last counts."""
        if asked_at < self._asked_at:
            return
        limits = usage_limits_of(line, self._now())
        if limits is None:
            return
        self._asked_at = asked_at
        self._take(limits)

    def begin_with(self, limits: UsageLimits | None) -> None:
        """Record what is known without an answer, unless an answer has reported it."""
        if limits is not None and self.latest is None:
            self._take(limits)

    def _take(self, limits: UsageLimits) -> None:
        self.latest = limits
        self._answered = False
        self._policy.note(limits, self._now())
        self._limits_of = self._account()
        self._watch_stop()
        self._on_change()

    def admit(self) -> Admission:
        """Admit a request, or raise PlanLimitError."""
        self._forget_those_of_another_account()
        return self._policy.admit(self.latest, self._now())

    def probed(self, *, answered: bool) -> None:
        """Record the end of a request that was admitted as a probe."""
        self._policy.probed(answered=answered)

    @property
    def overage_ahead(self) -> bool:
        """Whether serving is stopped, since only paid extra usage would answer."""
        return self._policy.until(self.latest, self._now()) is not None

    @property
    def used_up_until(self) -> float | None:
        """Until when the API refuses every request, in Unix seconds; None if it does not."""
        if self.latest is None or self._answered:
            return None
        return used_up(self.latest, self._now())

    @property
    def stopped_until(self) -> float | None:
        """When serving is expected to resume, in Unix seconds; None if it is not stopped."""
        overage = self._policy.until(self.latest, self._now())
        return self.used_up_until if overage is None else overage

    def works(self) -> None:
        """Record that the API answers, whatever it reported before."""
        if self.used_up_until is not None:
            self._answered = True
            self._on_change()

    def tell_reset(self, error: PlanLimitError, resets_at: float) -> None:
        """Add to an error when the limit resets, in Unix seconds."""
        error.tell_reset(resets_at, self._now())

    def close(self) -> None:
        """Stop informing watchers of later changes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_stop(self) -> None:
        """While serving is stopped, wake watchers when it continues."""
        self.close()
        now = self._now()
        until = self.stopped_until
        if until is not None:
            self._timer = asyncio.get_running_loop().call_later(
                min(until - now, ACCOUNT_LOOK_SECONDS), self._look_at_stop
            )

    def _look_at_stop(self) -> None:
        self._forget_those_of_another_account()
        self._watch_stop()
        self._on_change()

    def _forget_those_of_another_account(self) -> None:
        """If serving has stopped for an account that is no longer logged in, continue."""
        if self.stopped_until is not None and self._account() != self._limits_of:
            logger.info("another account is logged in: the previous usage limits no longer apply")
            self.latest = None
            self._policy.forget()
            self._on_other_account()
