"""What the API refuses. Pure: a request body in, None or the refusal out.

A rule is a function that gives the message of its refusal, or None. Its docstring cites the page of
the API's documentation; "seen" means that the wording, or the rule itself, is known from the API's
answers that people have published, and not from a page.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.simulator import models
from bridge.simulator.cache import content_blocks
from bridge.simulator.models import Model
from bridge.simulator.schema import refusal as schema_refusal

Body = Mapping[str, Any]

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_ROLES = ("user", "assistant", "system")
_BREAKPOINTS = 4


@dataclass(frozen=True, slots=True)
class ApiError:
    """A refusal: HTTP status, the API's error type, and its message."""

    status: int
    type: str
    message: str


def check(body: Body) -> ApiError | None:
    """The first rule that the request breaks, or None."""
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


def shape(body: Body) -> str | None:  # noqa: C901
    """Fields are there and of their type: https://platform.claude.com/docs/en/api/messages"""
    required = ("model", "max_tokens", "messages")
    for field in required:
        if field not in body:
            return f"{field}: Field required"
    if not isinstance(body["max_tokens"], int) or isinstance(body["max_tokens"], bool):
        return "max_tokens: Input should be a valid integer"
    if body["max_tokens"] < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    for field in ("messages", "tools", "stop_sequences"):
        if not isinstance(body.get(field, []), list):
            return f"{field}: Input should be a valid list"
    if not body["messages"]:
        return "messages: at least one message is required"
    for n, message in enumerate(body["messages"]):
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            return f"messages.{n}: role and content: Field required"
        if message["role"] not in _ROLES:
            return f"messages.{n}.role: Input should be 'user', 'assistant' or 'system'"
        content = message["content"]
        if not isinstance(content, str) and not _all_objects(content):
            return f"messages.{n}.content: Input should be a valid list"
    if not _all_objects(body.get("tools", [])):
        return "tools: Input should be a valid dictionary"
    system = body.get("system", [])
    if not isinstance(system, str) and not _all_objects(system):
        return "system: Input should be a valid list"
    for field in ("thinking", "tool_choice", "output_config", "context_management"):
        if not isinstance(body.get(field) or {}, Mapping):
            return f"{field}: Input should be a valid dictionary"
    if not _all_objects((body.get("context_management") or {}).get("edits", [])):
        return "context_management.edits: Input should be a valid list"
    return None


def first_message(body: Body) -> str | None:
    """The user begins: https://platform.claude.com/docs/en/api/messages (wording seen)."""
    if body["messages"][0]["role"] != "user":
        return 'messages: first message must use the "user" role'
    return None


def system_message_place(body: Body) -> str | None:
    """After a user message, and last or before an assistant's:
    https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages

    One that only sets the effort has its place anywhere after the first message:
    https://platform.claude.com/docs/en/build-with-claude/effort-per-message
    """
    messages = [m for m in body["messages"] if m["role"] != "system" or m["content"]]
    for before, message, after in zip(
        [None, *messages], messages, [*messages[1:], None], strict=False
    ):
        if message["role"] != "system":
            continue
        if before is None or before["role"] != "user":
            return "messages: role 'system' must immediately follow a user message"
        if after is not None and after["role"] != "assistant":
            return "messages: role 'system' must be last or be followed by an assistant message"
    return None


def content_present(body: Body) -> str | None:
    """No empty content: https://platform.claude.com/docs/en/api/errors (wordings seen).

    Stricter than what was seen lately, where an assistant's empty content passes anywhere.
    """
    last = len(body["messages"]) - 1
    for n, message in enumerate(body["messages"]):
        if message["content"] or message["role"] == "system":
            continue
        if message["role"] == "assistant" and n == last:
            continue
        if message["role"] == "user":
            return f"messages.{n}: user messages must have non-empty content"
        return (
            f"messages.{n}: all messages must have non-empty content except for the optional "
            "final assistant message"
        )
    return None


def text_present(body: Body) -> str | None:
    """No empty text block, no content of whitespace alone (wordings seen)."""
    places = [("system", body.get("system"))]
    places += [("messages", message["content"]) for message in body["messages"]]
    for place, content in places:
        if not content:
            continue
        blocks = content_blocks(content)
        texts = [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
        if not all(texts):
            return f"{place}: text content blocks must be non-empty"
        if len(texts) == len(blocks) and not any(text.strip() for text in texts):
            return f"{place}: text content blocks must contain non-whitespace text"
    return None


def tool_ids(body: Body) -> str | None:
    """Ids are of the documented characters, and each call has its own (wordings seen):
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
    """
    known: set[str] = set()
    for where, _, block in _blocks(body):
        kind = block.get("type")
        field = {"tool_use": "id", "tool_result": "tool_use_id"}.get(str(kind))
        if field is None:
            continue
        if not _ID.fullmatch(str(block.get(field, ""))):
            return f"{where}.{kind}.{field}: String should match pattern '^[a-zA-Z0-9_-]+$'"
        if kind == "tool_use":
            if block["id"] in known:
                return f"{where}: `tool_use` ids must be unique"
            known.add(block["id"])
    return None


def tool_results(body: Body) -> str | None:
    """Every call is answered in the next user message, and nothing else is (wordings seen):
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls
    """
    asked: list[str] = []
    asker = 0
    for role, turn in itertools.groupby(_spoken(body), key=lambda item: item[1]["role"]):
        # Messages of one role in a row are one turn.
        messages = list(turn)
        blocks = [
            (f"messages.{n}.content.{i}", block)
            for n, message in messages
            for i, block in enumerate(content_blocks(message["content"]))
        ]
        results = [(where, b) for where, b in blocks if b.get("type") == "tool_result"]
        calls = [(where, b) for where, b in blocks if b.get("type") == "tool_use"]
        if role == "assistant":
            if results:
                return f"{results[0][0]}: `tool_result` blocks can only be in `user` messages"
            asked, asker = [block["id"] for _, block in calls], messages[-1][0]
            continue
        if calls:
            return f"{calls[0][0]}: `tool_use` blocks can only be in `assistant` messages"
        for where, block in results:
            if block["tool_use_id"] not in asked:
                return (
                    f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding "
                    "`tool_use` block in the previous message."
                )
        # What answers calls comes first: a result after another block does not count.
        answers = [block.get("tool_use_id") for _, block in blocks[: len(results)]]
        if unanswered := [call for call in asked if call not in answers]:
            return _unanswered(asker, unanswered)
        if len(results) != len(asked):
            return f"{results[-1][0]}: each `tool_use` must have a single `tool_result`"
        asked = []
    return _unanswered(asker, asked) if asked else None


def _unanswered(message: int, ids: Sequence[str]) -> str:
    return (
        f"messages.{message}: `tool_use` ids were found without `tool_result` blocks immediately "
        f"after: {', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` "
        "block in the next message."
    )


def image_types(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/vision (wording seen)."""
    for where, _, block in _blocks(body):
        inner = content_blocks(block.get("content")) if block.get("type") == "tool_result" else []
        for image in (block, *inner):
            source = image.get("source")
            if image.get("type") != "image" or not isinstance(source, Mapping):
                continue
            if source.get("type") == "base64" and source.get("media_type") not in _MEDIA_TYPES:
                return (
                    f"{where}.image.source.base64.media_type: Input should be "
                    + ", ".join(f"'{kind}'" for kind in _MEDIA_TYPES[:-1])
                    + f" or '{_MEDIA_TYPES[-1]}'"
                )
    return None


def cache_breakpoints(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/prompt-caching (wording seen)."""
    everything = [
        *body.get("tools", []),
        *content_blocks(body.get("system")),
        *(block for _, _, block in _blocks(body)),
    ]
    found = sum(bool(block.get("cache_control")) for block in everything)
    found += bool(body.get("cache_control"))
    if found > _BREAKPOINTS:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {found}."
    return None


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

    The page has it for thinking as such; with adaptive thinking some models were seen to allow it.
    """
    if thinking_on(body) and _forced(body):
        return "Thinking may not be enabled when tool_choice forces tool use."
    return None


def thinking_with_prefill(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/extended-thinking"""
    if thinking_on(body) and _prefilled(body):
        return (
            "messages: final assistant content cannot be pre-filled when thinking is enabled. "
            "The conversation must end with a user message."
        )
    return None


def model_thinking(body: Body, model: Model) -> str | None:
    """See models.py for the pages (wordings seen).

    https://platform.claude.com/docs/en/models/opus-5/migration-guide: on Opus 5 thinking can be
    disabled up to high effort only.
    """
    kind = (body.get("thinking") or {}).get("type")
    effort = (body.get("output_config") or {}).get("effort")
    too_much = kind in ("disabled", "between_tools") and effort in ("xhigh", "max")
    refused = {
        "enabled": not model.takes_thinking_budget,
        "disabled": not model.takes_thinking_disabled
        or (too_much and (model.family, model.version) == ("opus", (5, 0))),
        "between_tools": model.family != "sonnet" or model.version < (5, 5) or too_much,
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
    if _prefilled(body) and not model.takes_prefill:
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
    image_types,
    cache_breakpoints,
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
    model_sampling,
    model_tool_choice,
    model_prefill,
    model_system_messages,
)


def _blocks(body: Body) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Each block of the messages: its place in the API's words, its message, itself."""
    for n, message in enumerate(body["messages"]):
        for i, block in enumerate(content_blocks(message["content"])):
            yield f"messages.{n}.content.{i}", message, block


def _spoken(body: Body) -> list[tuple[int, Mapping[str, Any]]]:
    """The messages of user and assistant, with their places."""
    return [(n, m) for n, m in enumerate(body["messages"]) if m["role"] != "system"]


def _forced(body: Body) -> bool:
    return (body.get("tool_choice") or {}).get("type") in ("any", "tool")


def _prefilled(body: Body) -> bool:
    spoken = _spoken(body)
    return bool(spoken) and spoken[-1][1]["role"] == "assistant"


def _all_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
