"""The parts of an answer that are passed on only if the request asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bridge.core.claude.wire import Wire
from bridge.core.contract import (
    Citation,
    EncryptedThinking,
    Event,
    ThinkingDelta,
    ThinkingSignature,
)

CITATIONS: Final = "citations_delta"
ENCRYPTED: Final = "redacted_thinking"

OPTIONAL: Final[Mapping[str, Callable[[Wire], Event]]] = {
    "thinking_delta": lambda delta: ThinkingDelta(delta["thinking"]),
    "signature_delta": lambda delta: ThinkingSignature(delta["signature"]),
    ENCRYPTED: lambda block: EncryptedThinking(block["data"]),
    CITATIONS: lambda delta: Citation(delta["citation"]),
}
"""The event of each, by the type of its delta or, for what comes as a whole, of its block."""


def asked_for(*, thinking: bool, signatures: bool, citations: bool) -> frozenset[str]:
    """Return the types of those to pass on; signatures are part of the thinking."""
    types = {"thinking_delta"} if thinking else set()
    if thinking and signatures:
        types |= {"signature_delta", ENCRYPTED}
    return frozenset(types | {CITATIONS} if citations else types)
