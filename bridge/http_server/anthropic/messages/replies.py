"""The objects that replies of the Messages API are made of."""

from __future__ import annotations

from typing import Final

from bridge.core.contract import Finished, FinishReason, Usage
from bridge.http_server.dialect import JsonDict

STOP_REASONS: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.REFUSAL: "refusal",
}


def usage_object(usage: Usage) -> JsonDict:
    """Tokens so far."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.thinking_tokens},
        "service_tier": "standard",
    }


def delta_usage_object(usage: Usage) -> JsonDict:
    """Tokens at the end of a stream, without what has no place there."""
    whole = usage_object(usage)
    del whole["cache_creation"], whole["service_tier"]
    return whole


def message_object(id: str, model: str, usage: Usage) -> JsonDict:
    """A message that has just begun."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_object(usage),
    }


def ending(event: Finished) -> JsonDict:
    """Why the answer ended, as far as possible in the model's own words."""
    reason = event.stop_reason or STOP_REASONS[event.reason]
    if event.stop_sequence is not None:
        reason = "stop_sequence"
    end: JsonDict = {"stop_reason": reason, "stop_sequence": event.stop_sequence}
    if event.stop_details is not None:
        end["stop_details"] = event.stop_details
    return end
