"""Builders of the objects in replies."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bridge.core.contract import FinishReason, Model, Usage
from bridge.http_server.dialect import JsonDict

DONE: Final = b"data: [DONE]\n\n"
"""What ends every stream but one that broke."""

FINISH_REASONS: dict[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.REFUSAL: "content_filter",
}


def usage_object(usage: Usage) -> JsonDict:
    """Tokens as OpenAI counts them: the prompt includes cached tokens."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.thinking_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def model_object(model: Model, created: int) -> JsonDict:
    """An available model."""
    return {"id": model.id, "object": "model", "created": created, "owned_by": "anthropic"}


def error_object(
    message: str,
    kind: str,
    param: str | None,
    code: str | None,
    more: Mapping[str, object] = MappingProxyType({}),
) -> JsonDict:
    """The envelope of every error, with all four of its keys, and `more` of some."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}
