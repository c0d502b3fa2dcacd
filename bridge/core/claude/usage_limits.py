"""The account's usage limits, as reported by the API in the CLI's `rate_limit_event`. Pure."""

from __future__ import annotations

from bridge.core.claude.wire import Wire
from bridge.core.contract import UsageLimits, UsageWindow

_WITHOUT_LIMITS = frozenset({"status", "isUsingOverage"})


def usage_limits_of(line: Wire, said_at: float = 0.0) -> UsageLimits | None:
    """Parse a `rate_limit_event`; `said_at` is in Unix seconds. None if it reports no limits.

    The CLI writes `rejected` on any 429, even one that the API sends for another reason, but then
    without any limits.
    """
    info = line.get("rate_limit_info")
    info = info if isinstance(info, dict) else {}
    if info.get("status") == "rejected" and not info.keys() - _WITHOUT_LIMITS:
        return None
    windows_info = info.get("unifiedWindows")
    windows = tuple(
        UsageWindow(str(limit), used, _number(window.get("resetsAt")))
        for limit, window in (windows_info.items() if isinstance(windows_info, dict) else ())
        # The window of extra usage is not one of the plan's.
        if limit != "overage"
        and isinstance(window, dict)
        and (used := _number(window.get("utilization"))) is not None
    )
    return UsageLimits(
        status=str(info.get("status", "")),
        resets_at=_number(info.get("resetsAt")),
        limit=str(info.get("rateLimitType") or ""),
        utilization=_number(info.get("utilization")),
        using_overage=info.get("isUsingOverage") is True or info.get("overageInUse") is True,
        overage_status=str(info.get("overageStatus") or ""),
        windows=windows,
        said_at=said_at,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
