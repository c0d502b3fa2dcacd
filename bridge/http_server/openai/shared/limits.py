"""The headers that show the limits of a key, as OpenAI's API names them.

https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from __future__ import annotations

import math
from typing import Final

from bridge.core.contract import Allowances

LIMIT_HEADERS: Final = frozenset(
    f"x-ratelimit-{what}-{kind}"
    for kind in ("requests", "tokens")
    for what in ("limit", "remaining", "reset")
)


def limit_headers(allowances: Allowances, now: float) -> dict[str, str]:
    """Return the headers of the limits that the key has; `now` is in Unix seconds."""
    headers: dict[str, str] = {}
    for kind, allowance in (("requests", allowances.requests), ("tokens", allowances.tokens)):
        if allowance is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(allowance.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(allowance.remaining)
            headers[f"x-ratelimit-reset-{kind}"] = _duration(allowance.resets_at - now)
    return headers


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: 6m0s."""
    minutes, rest = divmod(max(math.ceil(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}h" if hours else ""
    shown += f"{minutes}m" if hours or minutes else ""
    return f"{shown}{rest}s"
