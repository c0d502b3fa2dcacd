"""The account's usage limits, and stopping before its paid extra usage.

What the API reports of them comes with an answer, so the first answer that is paid for can not
always be foreseen. What can be known before it, `overage_ahead` takes into account.
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
"""The used share of a limit from which on no request is begun. A request is asked whole, and the
API goes over to extra usage in silence: what is left must be enough for those that run."""

UNKNOWN_RESET_SECONDS: Final = 900.0
"""How long serving stops where the API did not say when the limit is lifted."""

ACCOUNT_LOOK_SECONDS: Final = 5.0
"""How often to look whether another account is logged in, while serving has stopped."""

_PROBE_SECONDS: Final = 1.0


def overage_ahead(limits: UsageLimits, now: float) -> float | None:
    """When serving may go on, in Unix seconds; None where the next request costs nothing extra.

    It would be paid for where

    - extra usage has begun (the limit is used up, and the API answers all the same), or
    - a limit is all but used up and extra usage is not known to be off.

    Not where extra usage is off: then the API itself refuses what goes beyond the plan. Not on
    its early warnings (`allowed_warning`) as such: they come at 75 or 90 % already.
    """
    if limits.using_overage:
        until = _lifted(limits, limits.resets_at)
    elif limits.overage_status == "rejected":
        return None
    else:
        full = [w for w in limits.windows if w.utilization >= NEARLY_FULL]
        until = max((_lifted(limits, window.resets_at) for window in full), default=now)
    return until if until > now else None


def _lifted(limits: UsageLimits, resets_at: float | None) -> float:
    if resets_at is None or resets_at <= limits.said_at:
        return limits.said_at + UNKNOWN_RESET_SECONDS
    return resets_at


class Admission(Enum):
    """How a request is let through."""

    FREE = "free"
    PROBE = "probe"
    """It finds out what the limits are after one was lifted: report its end by `probed`."""


class _Probe(Enum):
    NONE = "none"
    RUNNING = "running"
    REPORTED = "reported"
    """It runs, and the API has reported the limits since it began."""


@dataclass(slots=True)
class OveragePolicy:
    """Refuses requests while extra usage would pay for them.

    When the limit is lifted, one request is let through, and the others wait for what the API
    reports with it.
    """

    enabled: bool
    _stopped: bool = False
    _probe: _Probe = _Probe.NONE

    def note(self, limits: UsageLimits, now: float) -> None:
        """Take in what the API has reported last."""
        if self._probe is _Probe.RUNNING:
            self._probe = _Probe.REPORTED
        self._stopped = overage_ahead(limits, now) is not None

    def forget(self) -> None:
        """What was reported is of another account."""
        self._stopped = False
        self._probe = _Probe.NONE

    def until(self, limits: UsageLimits | None, now: float) -> float | None:
        """When serving may continue, in Unix seconds; None where it is not stopped."""
        if not self.enabled or limits is None:
            return None
        return overage_ahead(limits, now)

    def admit(self, limits: UsageLimits | None, now: float) -> Admission:
        """Let a request through, or raise PlanLimitError."""
        if not self.enabled or limits is None:
            return Admission.FREE
        until = overage_ahead(limits, now)
        if until is not None:
            raise PlanLimitError(
                "The plan's included usage is used up, and this server does not go on to paid "
                "extra usage (BRIDGE_STOP_BEFORE_OVERAGE).",
                reason="OVERAGE_AHEAD",
                retry_after=until - now,
            )
        if not self._stopped:
            return Admission.FREE
        if self._probe is not _Probe.NONE:
            raise PlanLimitError(
                "The plan's limit has just been lifted; one request is finding out how it stands.",
                reason="OVERAGE_AHEAD",
                retry_after=_PROBE_SECONDS,
                retryable=True,
            )
        self._probe = _Probe.RUNNING
        return Admission.PROBE

    def probed(self, *, answered: bool) -> None:
        """The probe has ended. If it was answered and nothing was reported, all is well."""
        if answered and self._probe is _Probe.RUNNING:
            self._stopped = False
        self._probe = _Probe.NONE


class UsageLimitsState:
    """What the API last reported of the account's usage limits; admits requests by it."""

    def __init__(
        self,
        policy: OveragePolicy,
        now: Callable[[], float],
        on_change: Callable[[], None],
        *,
        account: Callable[[], str],
        on_other_account: Callable[[], None],
    ) -> None:
        """`now` gives Unix seconds, `account` the id of the account that is logged in.

        `on_other_account` is called when serving had stopped for one that no longer is.
        """
        self._policy = policy
        self._now = now
        self._on_change = on_change
        self._account = account
        self._on_other_account = on_other_account
        self._limits_of = ""
        """The account that `latest` was reported of."""
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.latest: UsageLimits | None = None
        """None until the API has reported something."""

    def note(self, line: Wire, asked_at: float) -> None:
        """Take in a `rate_limit_event`. Of several processes the turn asked last counts."""
        if asked_at < self._asked_at:
            return
        now = self._now()
        limits = usage_limits_of(line, now)
        if limits is None:
            return
        self._asked_at = asked_at
        self.latest = limits
        self._policy.note(limits, now)
        self._limits_of = self._account()
        self._watch_stop()
        self._on_change()

    def admit(self) -> Admission:
        """Let a request through, or raise PlanLimitError."""
        self._forget_those_of_another_account()
        return self._policy.admit(self.latest, self._now())

    def probed(self, *, answered: bool) -> None:
        """A request let through as a probe has ended."""
        self._policy.probed(answered=answered)

    @property
    def overage_ahead(self) -> bool:
        """Whether serving is stopped, since only paid extra usage would answer."""
        return self._policy.until(self.latest, self._now()) is not None

    def seconds_until(self, at: float) -> float:
        """Seconds until a moment in Unix seconds, 0 where it has passed."""
        return max(at - self._now(), 0.0)

    def close(self) -> None:
        """Inform watchers of no later change."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_stop(self) -> None:
        """While serving has stopped, look when it continues, so that watchers are informed."""
        self.close()
        now = self._now()
        until = self._policy.until(self.latest, now)
        if until is not None:
            self._timer = asyncio.get_running_loop().call_later(
                min(until - now, ACCOUNT_LOOK_SECONDS), self._look_at_stop
            )

    def _look_at_stop(self) -> None:
        self._forget_those_of_another_account()
        self._watch_stop()
        self._on_change()

    def _forget_those_of_another_account(self) -> None:
        """Where serving has stopped for an account that is not logged in any more, continue."""
        if self.overage_ahead and self._account() != self._limits_of:
            logger.info("another account is logged in: the usage limits of the last one are gone")
            self.latest = None
            self._policy.forget()
            self._on_other_account()
