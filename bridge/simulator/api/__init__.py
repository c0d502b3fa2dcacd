"""What the Messages API accepts, refuses and sends. Each rule cites its source page."""

from bridge.simulator.api.cache import PromptCache, prefixes
from bridge.simulator.api.failures import ERROR_TYPES, FAILURES, Failure, should_retry
from bridge.simulator.api.wire import (
    Gone,
    Message,
    Receive,
    Refused,
    Send,
    invalid,
    left,
    parsed,
    read,
    respond,
    start,
    write,
)

__all__ = [
    "ERROR_TYPES",
    "FAILURES",
    "Failure",
    "Gone",
    "Message",
    "PromptCache",
    "Receive",
    "Refused",
    "Send",
    "invalid",
    "left",
    "parsed",
    "prefixes",
    "read",
    "respond",
    "should_retry",
    "start",
    "write",
]
