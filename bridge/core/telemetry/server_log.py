"""The server's own log: a line for each request, and one whenever the server's health changes.

Neither contains any part of a prompt or an answer. Names that callers chose are escaped, so that
they cannot forge a line or control a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from bridge.core.contract import (
    InternalError,
    NotLoggedInError,
    PlanLimitError,
    PoolState,
    ProcessFailedError,
    UnavailableError,
    UsageLimits,
)
from bridge.core.telemetry.redaction import PrivateFormatter
from bridge.core.telemetry.request_record import RequestRecord

requests: Final = logging.getLogger("bridge.requests")
health: Final = logging.getLogger("bridge.health")

_FIELDS: Final = "fields"
"""The attribute of a log record with its machine-readable fields."""

_NOT_THE_CALLERS: Final = frozenset(
    {
        *(error.reason for error in (InternalError, NotLoggedInError, PlanLimitError)),
        *(error.reason for error in (ProcessFailedError, UnavailableError)),
        *("OVERLOADED", "OVERAGE_AHEAD", "UNFIT_ANSWER"),
        *("CLAUDE_ACCOUNT_REFUSED", "CLAUDE_MISCONFIGURED"),
        *("INSUFFICIENT_QUOTA", "USAGE_CREDITS_REQUIRED"),
    }
)
"""Reasons of errors that the operator may have to fix."""

_PLAIN: Final = re.compile(r"[\w.:/@+*-]+", re.ASCII)
_CONTROLS: Final = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in ("\t", "\n")
}


class ServerLog:
    """Logs each request after it has ended. An Observer."""

    def began(self, record: RequestRecord) -> None:
        """Do nothing: only finished requests are logged."""

    def ended(self, record: RequestRecord) -> None:
        """Do nothing: the cost follows."""

    def booked(self, record: RequestRecord) -> None:
        """Log the session log's metadata."""
        level = logging.WARNING if record.error in _NOT_THE_CALLERS else logging.INFO
        if not requests.isEnabledFor(level):
            return
        fields = {
            name: value
            for name, value in record.metadata().items()
            # Each line has its own timestamp.
            if name != "time" and value not in (None, "") and value is not False
        }
        requests.log(level, "%s", _text_of(fields), extra={_FIELDS: fields})


class HealthLog:
    """Logs each change of the server's health and of the account's usage limits."""

    def __init__(self) -> None:
        self._health = ("starting", "")
        self._limits = ("allowed", False)

    def look(self, state: PoolState) -> None:
        """Log what has changed since the last call."""
        now = (state.health.status, state.health.detail)
        before, self._health = self._health, now
        if now != before:
            # It starts and stops on request; any other change is unexpected.
            meant = now[0] == "draining" or (before[0] == "starting" and now == ("ok", ""))
            health.log(
                logging.INFO if meant else logging.WARNING,
                "%s (was %s)%s",
                now[0],
                before[0],
                f": {now[1]}" if now[1] else "",
                extra={_FIELDS: {"health": now[0], "before": before[0], "detail": now[1]}},
            )
        if state.plan is not None:
            self._look_at_limits(state.plan)

    def _look_at_limits(self, plan: UsageLimits) -> None:
        now = (plan.status, plan.using_overage)
        before, self._limits = self._limits, now
        if now != before:
            fields = {
                "usage_limit": plan.limit or None,
                "usage_status": plan.status,
                "extra_usage": plan.using_overage,
                "resets_at": None if plan.resets_at is None else _moment(plan.resets_at),
            }
            fields = {name: value for name, value in fields.items() if value is not None}
            health.warning("usage limits: %s", _text_of(fields), extra={_FIELDS: fields})


class TextFormatter(PrivateFormatter):
    """Human-readable lines, without control characters that could control a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return super().format(record).translate(_CONTROLS)


class JsonFormatter(PrivateFormatter):
    """One JSON object per line, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _text_of(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
