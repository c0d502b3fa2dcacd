"""The report of `bridge doctor --live`, which a user can attach to an issue: redacted. Pure.

It contains selected facts only. The API's own error messages and the names of the account and the
models come from elsewhere, so they go through `redacted`.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bridge import __version__
from bridge.core.contract import Health
from bridge.doctor.live import Proof

_LONGEST: Final = 300
_SECRETS: Final = (
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "[email]"),
    (re.compile(r"\b(sk|pk)-[\w-]{6,}|\b[Bb]earer\s+\S+"), "[key]"),
    (re.compile(r"\b[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "[id]"),
    (re.compile(r"\b(org|req|acct|account|user|msg|toolu|session|wrkspc)_\w{4,}"), "[id]"),
    (re.compile(r"(?<![\w:/])/[\w.@+-]+(/[\w.@+-]+)+"), "[path]"),
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b"), "[address]"),
    (re.compile(r"\b(?!claude-)(?=[\w+/=-]*\d)[\w+/=-]{24,}"), "[id]"),
)


def redacted(text: str, home: Path | None = None) -> str:
    """Truncate a text, without keys, ids, addresses, emails and paths."""
    if home is not None and str(home) != "/":
        text = text.replace(str(home), "~")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def report_of(
    proof: Proof, health: Health, models: Sequence[str], *, day: str, home: Path | None = None
) -> dict[str, Any]:
    """The results of the trials, as JSON data."""
    limits = proof.limits
    return {
        "report": "claude-code-bridge doctor --live",
        "day": day,
        "version": __version__,
        "claude_code": redacted(health.cli_version, home),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "account": redacted(health.account, home),
        "plan": redacted(health.subscription, home),
        "models": [redacted(model, home) for model in models],
        "trials": [
            {
                "trial": result.trial,
                "outcome": result.outcome,
                "model": redacted(result.model, home),
                "detail": redacted(result.detail, home),
                "session": result.session,
                "seconds": round(result.seconds, 2),
                "usage": asdict(result.usage),
            }
            for result in proof.results
        ],
        "limits": None
        if limits is None
        else {
            "status": redacted(limits.status),
            "limit": redacted(limits.limit),
            "windows": [redacted(window.limit) for window in limits.windows],
            "overage": redacted(limits.overage_status),
        },
        "refused": {redacted(m): sorted(fields) for m, fields in proof.refused.items()},
        "requests": len(proof.results),
        "tokens": proof.tokens,
        "cost_usd": proof.cost_usd,
    }
