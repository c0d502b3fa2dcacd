"""What a call says in its metadata of how long its parts may take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import grpc

from bridge.core.contract import CompletionRequest
from bridge.core.validation import seconds_from

QUEUE_TIMEOUT_KEY: Final = "x-bridge-queue-timeout"
FIRST_TOKEN_TIMEOUT_KEY: Final = "x-bridge-first-token-timeout"
IDLE_TIMEOUT_KEY: Final = "x-bridge-idle-timeout"
"""The limit of the whole is the deadline of the call."""


def with_time_limits(
    request: CompletionRequest, context: grpc.aio.ServicerContext[Any, Any]
) -> CompletionRequest:
    """Add the limits that the call brings; raises InvalidRequestError, which names the key."""
    given = dict(context.invocation_metadata() or ())

    def seconds(key: str) -> float | None:
        value = given.get(key)
        # Bytes only where a key ends in -bin.
        return None if value is None else seconds_from(f"The metadata {key}", str(value), field=key)

    return replace(
        request,
        queue_timeout=seconds(QUEUE_TIMEOUT_KEY),
        first_token_timeout=seconds(FIRST_TOKEN_TIMEOUT_KEY),
        idle_timeout=seconds(IDLE_TIMEOUT_KEY),
    )
