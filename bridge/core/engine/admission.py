"""What a request passes before it has a session: its model, its key's rights, the queue."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from bridge.core.contract import CompletionRequest, PermissionDeniedError, shown
from bridge.core.engine.planning import errors_named_for
from bridge.core.engine.resources import Resources
from bridge.core.engine.timeouts import Deadlines, Limit, TimeLimits
from bridge.core.pool import Lease, Need


def limits_of(request: CompletionRequest) -> TimeLimits:
    """Return the limits that a request sets for itself."""
    limits = (
        request.timeout,
        request.queue_timeout,
        request.first_token_timeout,
        request.idle_timeout,
    )
    return TimeLimits(*(math.inf if seconds is None else seconds for seconds in limits))


def check_model(request: CompletionRequest, resources: Resources) -> None:
    """Raise PermissionDeniedError if the key may not use the model."""
    allowed = resources.quotas.limits_of(request.caller).models
    with errors_named_for(request):
        if not resources.planner.catalog.permits(request.model, allowed):
            raise PermissionDeniedError(
                f"This key may not use the model {shown(request.model or 'default')}. "
                f"It may use: {', '.join(allowed)}.",
                field="model",
            )


async def lease_for(
    need: Need,
    resources: Resources,
    deadlines: Deadlines,
    *,
    admitted: bool,
    queued: Callable[[], None] = lambda: None,
) -> Lease:
    """Wait for a session; for the last two arguments see `Pool.acquire`.

    Raises DeadlineError, and what `Pool.acquire` raises.
    """
    pool = resources.pool
    deadlines.queued()
    at, limit = deadlines.next()
    try:
        async with asyncio.timeout_at(at):
            return await pool.acquire(need, admitted=admitted, queued=queued)
    except TimeoutError as error:
        wait = pool.wait_estimate(need) if limit is Limit.QUEUE else None
        raise deadlines.error(limit, retry_after=wait) from error
