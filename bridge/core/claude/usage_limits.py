"""The account's usage limits, as the CLI reports them: with an answer, or asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

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


# Of all models; the others are for one or some.
_GENERAL = frozenset({"five_hour", "seven_day"})
_FULL = 100


def usage_limits_in_report(report: Wire, said_at: float) -> UsageLimits | None:
    """Parse an answer to `get_usage`; `said_at` is in Unix seconds. None if it reports no limits.

    For the login of a subscription, the CLI asks the API for them, without calling a model. It
    reports none for a token without the right to the profile, an API key or a cloud provider.
    """
    limits = report.get("rate_limits")
    if not isinstance(limits, dict):
        return None
    windows = tuple(
        window
        for window in _reported(limits)
        # The CLI may report what it knew some time ago.
        if window.resets_at is None or window.resets_at > said_at
    )
    if not windows:
        return None
    first = max(windows, key=lambda window: (not window.of_model, window.utilization))
    extra = limits.get("extra_usage")
    enabled = bool(extra.get("is_enabled")) if isinstance(extra, dict) else None
    return UsageLimits(
        status="rejected" if first.utilization >= 1 else "allowed",
        resets_at=first.resets_at,
        limit=first.limit,
        utilization=first.utilization,
        overage_status={None: "", True: "allowed", False: "rejected"}[enabled],
        windows=windows,
        said_at=said_at,
    )


def _reported(limits: Wire) -> Iterator[UsageWindow]:
    for name, window in limits.items():
        if name.startswith(("five_hour", "seven_day")):
            yield from _window(name, window, of_model=name not in _GENERAL)
    scoped = limits.get("model_scoped")
    for window in scoped if isinstance(scoped, list) else ():
        if isinstance(window, dict):
            model = str(window.get("display_name", "")).lower()
            yield from _window(f"seven_day_{model}", window, of_model=True)


def _window(name: str, window: object, *, of_model: bool) -> Iterator[UsageWindow]:
    used = _number(window.get("utilization")) if isinstance(window, dict) else None
    if isinstance(window, dict) and used is not None:
        yield UsageWindow(name, used / _FULL, _moment(window.get("resets_at")), of_model)


def _moment(value: object) -> float | None:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
