"""What `bridge pool` prints for users."""

from __future__ import annotations

from bridge.cli.pool import as_dict, rows_of
from bridge.core.contract.states import (
    Health,
    HealthStatus,
    LimitedModel,
    PayerKind,
    PayerState,
    PoolState,
    Totals,
    UsageLimits,
    UsageWindow,
)
from bridge.grpc_server.wire.pool_state import encode_pool


def rows(health: Health, plan: UsageLimits | None = None) -> list[tuple[str, str]]:
    return rows_of(as_dict(encode_pool(PoolState(health, 6, Totals(), plan))))


def test_what_is_wrong_stands_under_the_status_with_what_to_do() -> None:
    health = Health(
        HealthStatus.NOT_LOGGED_IN,
        logged_in=False,
        account="none",
        cli_version="2",
        detail="Log in.",
    )
    assert rows(health)[:2] == [("status", "not logged in"), ("", "Log in.")]


def test_each_payer_has_its_line_with_what_it_does_not_serve() -> None:
    health = Health(HealthStatus.OK, logged_in=True, account="x", cli_version="2")
    limited = (LimitedModel("claude-opus-5", "PLAN_LIMIT", 1_800_000_000),)
    payers = (
        PayerState("mine", PayerKind.LOGIN, health, 3, limited),
        PayerState("team", PayerKind.API_KEY, health),
    )
    shown = rows_of(as_dict(encode_pool(PoolState(health, 6, Totals(), payers=payers))))
    (mine, team) = (row for row in shown if row[0].startswith("payer"))
    assert mine[0] == "payer mine"
    assert mine[1].startswith("login · ok · 3 answered · not for claude-opus-5 until ")
    assert mine[1].endswith("(plan_limit)")
    assert team == ("payer team", "api key · ok · 0 answered")
    assert not any(name.startswith("payer") for name, _ in rows(health))


def test_each_limit_of_the_plan_has_its_line() -> None:
    windows = (UsageWindow("five_hour", 0.83, 1_800_000_000), UsageWindow("seven_day", 0.4))
    plan = UsageLimits("allowed_warning", 1_800_000_000, "five_hour", 0.83, windows=windows)
    health = Health(
        HealthStatus.OK,
        logged_in=True,
        account="claude.ai",
        cli_version="2",
        subscription="Claude Max",
    )
    told = rows(health, plan)
    assert ("account", "claude.ai (Claude Max) · Claude Code 2") in told
    (plan_row, five_hours, seven_days) = told[-3:]
    assert plan_row == ("plan", "allowed warning")
    assert five_hours[1].startswith("five hour 83% used · resets ")
    assert seven_days == ("", "seven day 40% used")
