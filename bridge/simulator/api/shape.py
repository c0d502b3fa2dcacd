"""Whether the fields of a request exist and have the right types. Pure."""

from collections.abc import Mapping

from bridge.simulator.api.content_rules import (
    Body,
)

_ROLES = ("user", "assistant", "system")


def shape(body: Body) -> str | None:
    """Fields exist and have the right type: https://platform.claude.com/docs/en/api/messages"""
    return _required(body) or _lists(body) or _messages(body) or _objects(body)


def _required(body: Body) -> str | None:
    for field in ("model", "max_tokens", "messages"):
        if field not in body:
            return f"{field}: Field required"
    if not isinstance(body["max_tokens"], int) or isinstance(body["max_tokens"], bool):
        return "max_tokens: Input should be a valid integer"
    if body["max_tokens"] < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    return None


def _lists(body: Body) -> str | None:
    for field in ("messages", "tools", "stop_sequences"):
        if not isinstance(body.get(field, []), list):
            return f"{field}: Input should be a valid list"
    return None


def _messages(body: Body) -> str | None:
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
    return None


def _objects(body: Body) -> str | None:
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


def _all_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
