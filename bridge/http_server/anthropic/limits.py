"""The headers that show the limits of a key, as Anthropic's API names them.

https://platform.claude.com/docs/en/api/rate-limits
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from bridge.core.contract import Allowances

LIMIT_HEADERS: Final = frozenset(
    f"anthropic-ratelimit-{kind}-{what}"
    for kind in ("requests", "tokens")
    for what in ("limit", "remaining", "reset")
)


def limit_headers(allowances: Allowances) -> dict[str, str]:
    """Return the headers of the limits that the key has."""
    headers: dict[str, str] = {}
    for kind, allowance in (("requests", allowances.requests), ("tokens", allowances.tokens)):
        if allowance is not None:
            reset = datetime.fromtimestamp(math.ceil(allowance.resets_at), UTC)
            headers[f"anthropic-ratelimit-{kind}-limit"] = str(allowance.limit)
            headers[f"anthropic-ratelimit-{kind}-remaining"] = str(allowance.remaining)
            headers[f"anthropic-ratelimit-{kind}-reset"] = f"{reset:%Y-%m-%dT%H:%M:%SZ}"
    return headers
