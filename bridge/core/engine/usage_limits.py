"""Stopping before the plan's paid extra usage.

What the API says of the plan comes with an answer, so the first answer that is paid for can not
always be foreseen. What can be known before it, `overage_ahead` takes into account.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from bridge.core.contract import PlanLimitError, UsageLimits

NEARLY_FULL: Final = 0.98
"""The used share of a limit from which on no request is begun. A request is asked whole, and the
API goes over to extra usage in silence: what is left must be enough for those that run."""

UNKNOWN_RESET_SECONDS: Final = 900.0
"""How long serving stops where the API did not say when the limit is lifted."""

_PROBE_SECONDS: Final = 1.0


def overage_ahead(plan: UsageLimits, now: float) -> float | None:
    """When serving may go on, in Unix seconds; None where the next request costs nothing extra.

    It would be paid for where

    - extra usage has begun (the limit is used up, and the API answers all the same), or
    - a limit is all but used up and extra usage is not known to be off.

    Not where extra usage is off: then the API itself refuses what goes beyond the plan. Not on
    its early warnings (`allowed_warning`) as such: they come at 75 or 90 % already.
    """
    if plan.using_overage:
        until = _lifted(plan, plan.resets_at)
    elif plan.overage_status == "rejected":
        return None
    else:
        full = [w for w in plan.windows if w.utilization >= NEARLY_FULL]
        until = max((_lifted(plan, window.resets_at) for window in full), default=now)
    return until if until > now else None


def _lifted(plan: UsageLimits, resets_at: float | None) -> float:
    if resets_at is None or resets_at <= plan.said_at:
        return plan.said_at + UNKNOWN_RESET_SECONDS
    return resets_at


class Admission(Enum):
    """How a request is let through."""

    FREE = "free"
    PROBE = "probe"
    """It is the one that finds out how the plan stands after a limit was lifted: tell the guard
    of its end."""


@dataclass(slots=True)
class OveragePolicy:
    """Refuses requests while extra usage would pay for them.

    When the limit is lifted, one request is let through, and the others wait for what the API
    says with it.
    """

    enabled: bool
    _stopped: bool = False
    _probing: bool = False
    _heard: bool = False
    """Whether the API has said anything since the probe began."""

    def note(self, plan: UsageLimits, now: float) -> None:
        """Take in what the API has said last."""
        self._heard = True
        self._stopped = overage_ahead(plan, now) is not None

    def until(self, plan: UsageLimits | None, now: float) -> float | None:
        """When serving may go on, in Unix seconds; None where it is not stopped."""
        if not self.enabled or plan is None:
            return None
        return overage_ahead(plan, now)

    def admit(self, plan: UsageLimits | None, now: float) -> Admission:
        """Let a request through, or raise PlanLimitError."""
        if not self.enabled or plan is None:
            return Admission.FREE
        until = overage_ahead(plan, now)
        if until is not None:
            raise PlanLimitError(
                "The plan's included usage is used up, and this server does not go on to paid "
                "extra usage (BRIDGE_STOP_BEFORE_OVERAGE).",
                reason="OVERAGE_AHEAD",
                retry_after=until - now,
            )
        if not self._stopped:
            return Admission.FREE
        if self._probing:
            raise PlanLimitError(
                "The plan's limit has just been lifted; one request is finding out how it stands.",
                reason="OVERAGE_AHEAD",
                retry_after=_PROBE_SECONDS,
                retryable=True,
            )
        self._probing = True
        self._heard = False
        return Admission.PROBE

    def probed(self, *, answered: bool) -> None:
        """The probe has ended. If it was answered and nothing new was said, the plan is well."""
        self._probing = False
        if answered and not self._heard:
            self._stopped = False
