"""Time limits that a caller gives beside its request."""

from __future__ import annotations

import math

from bridge.core.contract import InvalidRequestError


def seconds_from(what: str, text: str, *, field: str) -> float:
    """Read a limit that a caller gives beside its request: `what` it is, by the name of `field`.

    Raises InvalidRequestError for what is no number of seconds above 0.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequestError(
            f"{what} takes a number of seconds above 0, such as 30.", field=field
        )
    return seconds
