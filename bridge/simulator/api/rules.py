"""What the API refuses. Pure: takes a request body, returns None or the refusal.

A rule is a function that returns the message of its refusal, or None. Its docstring cites the page
of the API's documentation; "seen" means that the wording, or the rule itself, is known from
published answers of the API, and not from a page.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.simulator.api import models
from bridge.simulator.api.content_rules import (
    Body,
    cache_breakpoints,
    cache_order,
    citations,
    content_present,
    failed_results,
    first_message,
    image_bytes,
    image_types,
    prefill_end,
    prefilled,
    system_message_place,
    text_present,
    tool_ids,
    tool_results,
)
from bridge.simulator.api.models import Model
from bridge.simulator.api.schema import refusal as schema_refusal
from bridge.simulator.api.shape import shape

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


_EFFORTS = ("low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class ApiError:
    """A refusal: HTTP status, the API's error type, and its message."""

    status: int
    type: str
    message: str


def check(body: Body) -> ApiError | None:
    """Return the refusal of the first rule that the request breaks, or None."""
    if (message := shape(body)) is not None:
        return ApiError(400, "invalid_request_error", message)
    model = models.find(body["model"])
    if model is None:
        # https://platform.claude.com/docs/en/api/errors
        return ApiError(404, "not_found_error", f"model: {body['model']}")
    broken = itertools.chain(
        (rule(body) for rule in BODY_RULES), (rule(body, model) for rule in MODEL_RULES)
    )
    message = next((message for message in broken if message is not None), None)
    return None if message is None else ApiError(400, "invalid_request_error", message)


def tool_names(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools (wording seen)."""
    names = [str(tool.get("name", "")) for tool in body.get("tools", [])]
    for n, name in enumerate(names):
        if not _TOOL_NAME.fullmatch(name):
            return f"tools.{n}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
    return "tools: Tool names must be unique." if len(names) != len(set(names)) else None


def tool_choice(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools (wording seen)."""
    choice = body.get("tool_choice") or {}
    if not choice:
        return None
    if choice.get("type") not in ("auto", "any", "tool", "none"):
        return "tool_choice: Input tag should be one of 'auto', 'any', 'tool', 'none'"
    if not body.get("tools") and choice["type"] != "none":
        return "tool_choice: Tool_choice may only be specified while providing tools"
    names = [tool.get("name") for tool in body.get("tools", [])]
    if choice["type"] == "tool" and choice.get("name") not in names:
        return f"tool_choice: Tool '{choice.get('name')}' not found in provided tools"
    return None


def stop_sequences(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/api/messages (wordings seen)."""
    for sequence in body.get("stop_sequences", []):
        if not isinstance(sequence, str):
            return "stop_sequences: Input should be a valid string"
        if not sequence:
            return "stop_sequences: each stop sequence must be non-empty"
        if not sequence.strip():
            return "stop_sequences: each stop sequence must contain non-whitespace"
    return None


def sampling_range(body: Body) -> str | None:
    """temperature and top_p are in 0..1: https://platform.claude.com/docs/en/api/messages"""
    for field in ("temperature", "top_p"):
        value = body.get(field)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"{field}: Input should be a valid number"
        if not 0 <= value <= 1:
            return f"{field}: range: 0..1"
    return None


def output_format(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/structured-outputs"""
    form = (body.get("output_config") or {}).get("format")
    if form is None:
        return None
    if not isinstance(form, Mapping) or form.get("type") != "json_schema":
        return "output_config.format: Input tag should be 'json_schema'"
    if not isinstance(form.get("schema"), Mapping):
        return "output_config.format.schema: Field required"
    found = schema_refusal(form["schema"])
    return None if found is None else f"output_config.format.schema: {found}"


def clear_thinking(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/context-editing (wording seen)."""
    edits = (body.get("context_management") or {}).get("edits", [])
    if not thinking_on(body) and any(
        str(edit.get("type")).startswith("clear_thinking") for edit in edits
    ):
        return "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive"
    return None


def thinking_budget(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/extended-thinking (wording seen)."""
    thinking = body.get("thinking") or {}
    if not thinking:
        return None
    if thinking.get("type") not in ("enabled", "adaptive", "disabled", "between_tools"):
        return "thinking: Input tag should be one of 'adaptive', 'disabled', 'enabled'"
    if thinking["type"] != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < 1024:
        return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
    if budget >= body["max_tokens"]:
        return "`max_tokens` must be greater than `thinking.budget_tokens`"
    return None


def thinking_with_sampling(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/extended-thinking (wordings seen)."""
    if not thinking_on(body):
        return None
    if body.get("temperature", 1) not in (1, None):
        return (
            "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode. "
            "Please consult our documentation at "
            "https://platform.claude.com/docs/en/build-with-claude/extended-thinking"
        )
    if (body.get("top_p") or 1) < 0.95:
        return "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled."
    if body.get("top_k") is not None:
        return "`top_k` must be unset when thinking is enabled."
    return None


def thinking_with_forced_tool(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/extended-thinking (wording seen).

    The page states it for all thinking; with adaptive thinking some models were seen to allow it.
    """
    if thinking_on(body) and _forced(body):
        return "Thinking may not be enabled when tool_choice forces tool use."
    return None


def thinking_with_prefill(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/extended-thinking"""
    if thinking_on(body) and prefilled(body):
        return (
            "messages: final assistant content cannot be pre-filled when thinking is enabled. "
            "The conversation must end with a user message."
        )
    return None


def effort_level(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/effort (wording seen)."""
    effort = (body.get("output_config") or {}).get("effort")
    if effort is None or effort in _EFFORTS:
        return None
    return "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"


def model_effort(body: Body, model: Model) -> str | None:
    """See models.py for the pages (wordings seen)."""
    effort = (body.get("output_config") or {}).get("effort")
    if effort == "xhigh" and not model.takes_xhigh:
        return (
            "This model does not support effort level 'xhigh'. "
            "Supported levels: high, low, max, medium."
        )
    off = (body.get("thinking") or {}).get("type") in ("disabled", "between_tools")
    if off and effort in ("xhigh", "max") and model.effort_needs_thinking:
        return (
            f"output_config.effort '{effort}' is not supported when thinking is disabled on this "
            "model. Use effort 'high' or below, or enable thinking."
        )
    return None


def model_thinking(body: Body, model: Model) -> str | None:
    """See models.py for the pages (wordings seen)."""
    kind = (body.get("thinking") or {}).get("type")
    refused = {
        "enabled": not model.takes_thinking_budget,
        "disabled": not model.takes_thinking_disabled,
        "between_tools": model.family != "sonnet" or model.version < (5, 5),
    }
    if not refused.get(str(kind), False):
        return None
    return (
        f'"thinking.type.{kind}" is not supported for this model. Use "thinking.type.adaptive" and '
        '"output_config.effort" to control thinking behavior.'
    )


def model_sampling(body: Body, model: Model) -> str | None:
    """See models.py for the pages (wordings seen)."""
    if model.takes_sampling:
        if body.get("temperature") is not None and body.get("top_p") is not None:
            return (
                "`temperature` and `top_p` cannot both be specified for this model. "
                "Please use only one."
            )
        return None
    for field, default in (("temperature", 1), ("top_p", 1), ("top_k", None)):
        if body.get(field) not in (None, default):
            return f"`{field}` is deprecated for this model."
    return None


def model_tool_choice(body: Body, model: Model) -> str | None:
    """See models.py for the pages (wording seen)."""
    if _forced(body) and not model.takes_forced_tool:
        return 'tool_choice: type "tool" and "any" are not supported for this model.'
    return None


def model_prefill(body: Body, model: Model) -> str | None:
    """See models.py for the pages (wording seen)."""
    if prefilled(body) and not model.takes_prefill:
        return (
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    return None


def model_system_messages(body: Body, model: Model) -> str | None:
    """See models.py for the pages (wording seen)."""
    if not model.takes_system_messages and any(m["role"] == "system" for m in body["messages"]):
        return "role 'system' is not supported on this model"
    return None


def thinking_on(body: Body) -> bool:
    """Whether the request has thinking enabled or adaptive."""
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


BODY_RULES: tuple[Callable[[Body], str | None], ...] = (
    first_message,
    system_message_place,
    content_present,
    text_present,
    tool_ids,
    tool_results,
    failed_results,
    image_types,
    image_bytes,
    citations,
    cache_breakpoints,
    cache_order,
    prefill_end,
    effort_level,
    tool_names,
    tool_choice,
    stop_sequences,
    sampling_range,
    output_format,
    thinking_budget,
    thinking_with_sampling,
    thinking_with_forced_tool,
    thinking_with_prefill,
    clear_thinking,
)


MODEL_RULES: tuple[Callable[[Body, Model], str | None], ...] = (
    model_thinking,
    model_effort,
    model_sampling,
    model_tool_choice,
    model_prefill,
    model_system_messages,
)


def _forced(body: Body) -> bool:
    return (body.get("tool_choice") or {}).get("type") in ("any", "tool")
