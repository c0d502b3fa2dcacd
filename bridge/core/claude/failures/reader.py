"""Reads the failures in the lines of one turn."""

from __future__ import annotations

import re
from typing import Final

from bridge.core.claude.failures.kinds import USAGE_LIMIT
from bridge.core.claude.failures.results import failure_of
from bridge.core.claude.failures.retries import busy, gives_up, waiting_for
from bridge.core.claude.wire import Wire
from bridge.core.contract import BridgeError, PlanLimitError

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class FailureReader:
    """Collects the CLI's reports in a turn that fails."""

    def __init__(self, asked: str | None = None) -> None:
        """`asked` is the requested model, for error messages."""
        self._asked = asked
        self._kind: str | None = None
        self.waiting: BridgeError | None = None
        """Why the answer is delayed, while the CLI is about to retry a failed call."""

    def note_answer(self, line: Wire) -> None:
        """Record an `assistant` line: a synthetic one names the kind of a failure."""
        self._kind = line.get("error") or self._kind

    def note_retry(self, line: Wire, *, limited: bool) -> None:
        """Record an `api_retry` line; raises its error if the retry is not awaited.

        `limited`: whether the account is known to have reached its usage limit.
        """
        waiting = waiting_for(line)
        waiting.for_log = named({"api_error_status": line.get("error_status")}, line.get("error"))
        self.waiting = waiting
        if line.get("error_status") == 429 and limited:
            raise USAGE_LIMIT.as_error()
        if gives_up(line):
            raise waiting

    def of(self, result: Wire, *, limited: bool) -> BridgeError:
        """Return the error of a `result` line without an answer."""
        failure = failure_of(result, self._asked, self._kind)
        refused = result.get("api_error_status") == 429 and result.get("api_error") is None
        if refused and not limited and failure.reason == PlanLimitError.reason:
            # A burst limit: no usage limits of the account were reported.
            failure = busy()
        failure.for_log = named(result, self._kind)
        return failure


def named(result: Wire, kind: str | None) -> str:
    """Return the CLI's names of the failure: its kinds and the status, never a text."""
    names = {
        "status": result.get("api_error_status"),
        "error": kind,
        "api_error": result.get("api_error"),
        "type": result.get("api_error_type"),
        "code": result.get("api_error_code"),
        "ended": result.get("terminal_reason"),
    }
    return " ".join(
        f"{name}={value}"
        for name, value in names.items()
        if isinstance(value, int) or (isinstance(value, str) and _NAME.fullmatch(value))
    )
