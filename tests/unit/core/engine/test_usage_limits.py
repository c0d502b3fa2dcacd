"""When serving stops before paid extra usage, and how it resumes."""

from __future__ import annotations

import pytest

from bridge.core.claude.usage_limits import usage_limits_of
from bridge.core.contract.errors import PlanLimitError
from bridge.core.contract.states import UsageLimits, UsageWindow
from bridge.core.engine.usage_limits import (
    NEARLY_FULL,
    UNKNOWN_RESET_SECONDS,
    Admission,
    OveragePolicy,
    UsageLimitsState,
    overage_ahead,
    used_up,
)

NOW = 1_000_000.0
RESET = NOW + 3600


def said(status: str = "allowed", resets_at: float | None = RESET, **fields: object) -> UsageLimits:
    return UsageLimits(status, resets_at, "five_hour", said_at=NOW, **fields)  # type: ignore[arg-type]


def window(used: float, resets_at: float | None = RESET, limit: str = "five_hour") -> UsageWindow:
    return UsageWindow(limit, used, resets_at)


WEEK = NOW + 500_000


@pytest.mark.parametrize(
    ("plan", "until"),
    [
        (said(), None),
        (said("allowed_warning", utilization=0.9, windows=(window(0.9),)), None),
        # Refused by the API itself, which then costs nothing.
        (said("rejected"), None),
        (said("rejected", overage_status="rejected", windows=(window(1.0),)), None),
        (said("rejected", using_overage=True), RESET),
        (said("rejected", None, using_overage=True), NOW + UNKNOWN_RESET_SECONDS),
        (said("rejected", NOW - 5, using_overage=True), NOW + UNKNOWN_RESET_SECONDS),
        (said(windows=(window(NEARLY_FULL),)), RESET),
        (said(windows=(window(NEARLY_FULL - 0.01),)), None),
        (said(windows=(window(1.0, None),)), NOW + UNKNOWN_RESET_SECONDS),
        (said(overage_status="allowed", windows=(window(1.0),)), RESET),
        # Extra usage is off: the API stops by itself.
        (said(overage_status="rejected", windows=(window(1.0),)), None),
        # That of one model stops no other.
        (said(windows=(UsageWindow("seven_day_opus", 1.0, RESET, of_model=True),)), None),
        # All reached limits must be lifted.
        (said(windows=(window(1.0), window(0.99, WEEK, "seven_day"))), WEEK),
        (said(windows=(window(0.1), window(0.99, WEEK, "seven_day"))), WEEK),
    ],
)
def test_what_is_ahead(plan: UsageLimits, until: float | None) -> None:
    assert overage_ahead(plan, NOW) == until
    # Once the limit is lifted, the old report no longer applies.
    assert overage_ahead(plan, (until or NOW) + 1) is None


def event(**info: object) -> dict[str, object]:
    return {"type": "rate_limit_event", "rate_limit_info": info}


def test_an_event_is_read_as_the_cli_writes_it() -> None:
    plan = usage_limits_of(
        event(
            status="rejected",
            resetsAt=RESET,
            rateLimitType="five_hour",
            overageStatus="allowed",
            isUsingOverage=True,
            overageInUse=True,
            unifiedWindows={
                "five_hour": {"utilization": 1, "resetsAt": RESET},
                "overage": {"utilization": 0.2, "resetsAt": WEEK},
            },
        ),
        NOW,
    )
    assert plan is not None
    assert plan.using_overage
    assert plan.overage_status == "allowed"
    assert plan.windows == (window(1.0),)
    assert overage_ahead(plan, NOW) == RESET


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"unifiedWindows": [1]},
        {"unifiedWindows": {"five_hour": 3, "seven_day": {"utilization": "x"}}},
        {"resetsAt": "soon", "utilization": None, "overageStatus": None},
    ],
)
def test_what_is_no_event_as_known_stops_nothing(info: dict[str, object]) -> None:
    plan = usage_limits_of(event(**info), NOW)
    assert plan is None or overage_ahead(plan, NOW) is None


def test_without_the_setting_nothing_is_refused() -> None:
    guard, plan = OveragePolicy(enabled=False), said("rejected", using_overage=True)
    guard.note(plan, NOW)
    assert guard.admit(plan, NOW) is Admission.FREE
    assert guard.until(plan, NOW) is None


def stopped() -> tuple[OveragePolicy, UsageLimits]:
    guard, plan = OveragePolicy(enabled=True), said("rejected", using_overage=True)
    guard.note(plan, NOW)
    return guard, plan


def test_a_stop_has_its_end_time() -> None:
    guard, plan = stopped()
    with pytest.raises(PlanLimitError) as refused:
        guard.admit(plan, NOW + 600)
    assert refused.value.reason == "OVERAGE_AHEAD"
    assert refused.value.retry_after == 3000
    assert refused.value.resets_at == NOW + 3600
    assert refused.value.message.endswith(", in 50 minutes.")
    assert not refused.value.retryable


def test_after_the_reset_one_request_finds_out() -> None:
    guard, plan = stopped()
    assert guard.admit(plan, RESET) is Admission.PROBE
    with pytest.raises(PlanLimitError) as refused:
        guard.admit(plan, RESET)
    # For a moment only: trying again is right.
    assert refused.value.retryable
    guard.probed(answered=True)
    assert guard.admit(plan, RESET) is Admission.FREE


def test_a_probe_that_fails_is_followed_by_another() -> None:
    guard, plan = stopped()
    guard.admit(plan, RESET)
    guard.probed(answered=False)
    assert guard.admit(plan, RESET) is Admission.PROBE


def test_a_probe_that_was_paid_for_is_the_last() -> None:
    guard, plan = stopped()
    guard.admit(plan, RESET)
    again = UsageLimits("rejected", WEEK, "seven_day", using_overage=True, said_at=RESET)
    guard.note(again, RESET)
    guard.probed(answered=True)
    with pytest.raises(PlanLimitError):
        guard.admit(again, RESET + 1)
    # The second stop ends as the first.
    assert guard.admit(again, WEEK) is Admission.PROBE


@pytest.mark.parametrize(
    ("plan", "until"),
    [
        (said(), None),
        (said("allowed_warning"), None),
        (said("rejected"), RESET),
        (said("rejected", None), NOW + UNKNOWN_RESET_SECONDS),
        # Paid extra usage answers.
        (said("rejected", using_overage=True), None),
        (said("rejected", overage_status="allowed"), None),
        (said("rejected", overage_status="rejected"), RESET),
        (UsageLimits("rejected", RESET, "seven_day", said_at=NOW), RESET),
        (UsageLimits("rejected", RESET, "", said_at=NOW), RESET),
        # Other models are served.
        (UsageLimits("rejected", RESET, "seven_day_opus", said_at=NOW), None),
    ],
)
def test_until_when_an_account_answers_nothing(plan: UsageLimits, until: float | None) -> None:
    assert used_up(plan, NOW) == until
    assert used_up(plan, (until or NOW) + 1) is None


async def test_what_is_known_at_the_start_counts_until_an_answer_reports_more() -> None:
    time = NOW

    def state() -> UsageLimitsState:
        return UsageLimitsState(
            OveragePolicy(enabled=True),
            lambda: time,
            lambda: None,
            account=lambda: "me",
            on_other_account=lambda: None,
        )

    begun = state()
    begun.begin_with(None)
    assert begun.latest is None
    begun.begin_with(said(overage_status="allowed", windows=(window(1.0),)))
    with pytest.raises(PlanLimitError):
        begun.admit()
    begun.close()
    answered = state()
    answered.note(event(status="allowed", rateLimitType="five_hour"), 1.0)
    answered.begin_with(said("rejected", using_overage=True))
    assert answered.latest is not None
    assert answered.latest.status == "allowed"
