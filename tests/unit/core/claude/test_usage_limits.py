"""The usage limits as Claude Code reports them without an answer."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.claude.usage_limits import usage_limits_in_report
from bridge.core.contract import UsageWindow

NOW = 1_800_000_000.0
LATER, EARLIER = "2027-01-15T09:00:00Z", "2027-01-15T07:59:59+00:00"
RESET = 1_800_003_600.0


def report(**limits: Any) -> dict[str, Any]:
    return {"session": {}, "rate_limits_available": True, "rate_limits": limits}


def window(used: object, resets: object = LATER) -> dict[str, object]:
    return {"utilization": used, "resets_at": resets}


def test_shares_and_resets_are_those_of_the_report() -> None:
    limits = usage_limits_in_report(
        report(
            five_hour=window(50),
            seven_day=window(7.5, None),
            seven_day_opus=window(90),
            seven_day_sonnet=None,
            extra_usage={"is_enabled": True, "utilization": 3},
            model_scoped=[{"display_name": "Fable", **window(100)}],
        ),
        NOW,
    )
    assert limits is not None
    assert limits.windows == (
        UsageWindow("five_hour", 0.5, RESET),
        UsageWindow("seven_day", 0.075),
        UsageWindow("seven_day_opus", 0.9, RESET, of_model=True),
        UsageWindow("seven_day_fable", 1.0, RESET, of_model=True),
    )
    # That of one model says nothing about the others.
    assert (limits.limit, limits.utilization, limits.resets_at) == ("five_hour", 0.5, RESET)
    assert (limits.status, limits.overage_status, limits.said_at) == ("allowed", "allowed", NOW)


def test_a_limit_that_is_reached_is_reported_as_such() -> None:
    limits = usage_limits_in_report(
        report(five_hour=window(3), seven_day=window(100), extra_usage={"is_enabled": False}), NOW
    )
    assert limits is not None
    assert (limits.status, limits.limit) == ("rejected", "seven_day")
    assert limits.overage_status == "rejected"


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"rate_limits_available": False, "rate_limits": None},
        report(),
        report(five_hour=None, extra_usage={"is_enabled": True}),
        report(five_hour=window(None), seven_day="much", model_scoped=["Fable"]),
        # What it knew before, and what has been reset since.
        report(five_hour=window(100, EARLIER)),
    ],
)
def test_what_says_nothing_of_now_is_unknown(found: dict[str, Any]) -> None:
    assert usage_limits_in_report(found, NOW) is None


def test_a_time_that_is_none_is_unknown() -> None:
    limits = usage_limits_in_report(report(five_hour=window(1, "soon")), NOW)
    assert limits is not None
    assert limits.resets_at is None
