"""Builders of the objects in replies of the Responses API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from bridge.core.contract import InvalidRequestError, Usage, shown
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.tools import OfferedTool, ToolKind


def response_object(
    id: str,
    created: int,
    model: str,
    status: str,
    output: Sequence[JsonDict],
    echo: JsonDict,
) -> JsonDict:
    """A response, with every key of OpenAI's; `echo` are the parameters that it repeats."""
    return {
        "id": id,
        "object": "response",
        "created_at": created,
        "completed_at": None,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": list(output),
        "usage": None,
        **echo,
    }


def output_text(text: str) -> JsonDict:
    """A text part of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(id: str, status: str, content: Sequence[JsonDict]) -> JsonDict:
    """A message of the assistant."""
    return {
        "id": id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": list(content),
    }


def call_item(id: str, status: str, call_id: str, tool: OfferedTool, text: str) -> JsonDict:
    """A call of one of the caller's tools; `text` is its arguments or its free text."""
    same = {"id": id, "type": tool.kind.value, "status": status, "call_id": call_id}
    if tool.kind is ToolKind.SEARCH:
        return {**same, "execution": "client", "arguments": _searched(text)}
    named = {"name": tool.name, **({"namespace": tool.namespace} if tool.namespace else {})}
    key = "input" if tool.kind is ToolKind.CUSTOM else "arguments"
    return {**same, **named, key: text}


def _searched(text: str) -> object:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text


def summary_text(text: str) -> JsonDict:
    """A part of the thinking."""
    return {"type": "summary_text", "text": text}


def reasoning_item(id: str, status: str, summary: Sequence[JsonDict]) -> JsonDict:
    """The model's thinking."""
    return {
        "id": id,
        "type": "reasoning",
        "status": status,
        "summary": list(summary),
        "encrypted_content": None,
    }


def compaction_item(id: str, content: str) -> JsonDict:
    """A summary of a conversation, as its caller hands it back."""
    return {"id": id, "type": "compaction", "encrypted_content": content}


def response_usage(usage: Usage) -> JsonDict:
    """Tokens as this API counts them: the input includes cached tokens."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
        "total_tokens": usage.total_tokens,
    }


def page_of(
    items: Sequence[JsonDict], limit: int, order: Literal["asc", "desc"], after: str | None
) -> JsonDict:
    """Return a page of items in OpenAI's list format."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise InvalidRequestError(
                f"'after' is {shown(after)}, which is not one of the items.", field="after"
            )
        start = ids.index(after) + 1
    page = ordered[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(ordered),
    }
