"""What of a request for a response its reply repeats."""

from __future__ import annotations

from typing import Final

from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.wire import ResponsesRequest

_UNSAID: Final = {"description": None, "parameters": None, "strict": None}
"""What a reply says of a function where the request does not."""


def echo_of(wire: ResponsesRequest, body: JsonDict) -> JsonDict:
    """Return what of a request its reply repeats, with OpenAI's defaults."""
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    written = text.get("format") or {"type": "text"}
    if written["type"] == "json_schema":
        written = {"name": "", **written}
    return {
        "background": wire.background is True,
        "conversation": None if wire.conversation_id is None else {"id": wire.conversation_id},
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": wire.max_tool_calls,
        "metadata": wire.metadata or {},
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "previous_response_id": wire.previous_response_id,
        "prompt_cache_key": wire.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.get("effort"),
            "summary": reasoning.get("summary") or reasoning.get("generate_summary"),
        },
        "safety_identifier": wire.safety_identifier,
        "service_tier": "default",
        "temperature": 1.0 if wire.temperature is None else wire.temperature,
        "text": {"format": written, "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [
            {**_UNSAID, **tool, "type": "function"}
            if tool.get("type") in (None, "function")
            else tool
            for tool in body.get("tools") or ()
        ],
        "top_logprobs": 0,
        "top_p": 1.0 if wire.top_p is None else wire.top_p,
        "truncation": "disabled",
        "user": wire.user,
        # No parameters of this API, but its published schema wants them in a reply.
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }
