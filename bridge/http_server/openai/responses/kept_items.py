"""The items of a Responses request as they are stored and listed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

from pydantic import TypeAdapter

from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.items import Content
from bridge.http_server.openai.responses.wire_items import (
    AdditionalToolsItem,
    CompactionItem,
    CompactionTriggerItem,
    ConfigurationItem,
    CustomCallItem,
    CustomOutputItem,
    FunctionCallItem,
    FunctionOutputItem,
    HostedItem,
    InputFile,
    InputImage,
    InputItem,
    InputText,
    ItemPart,
    ItemReference,
    MessageItem,
    OtherItem,
    OutputText,
    ReasoningItem,
    SearchCallItem,
    SearchOutputItem,
)
from bridge.http_server.openai.shared.wire_content import (
    ContentPartInputAudio,
    ContentPartRefusal,
    ContentPartText,
)
from bridge.http_server.wire import WireModel

_ITEM_ID: Final = re.compile(r"[a-z]+_([0-9a-f]+)_(?:in)?[0-9]+")
_KEPT_ITEMS: Final[TypeAdapter[list[InputItem]]] = TypeAdapter(list[InputItem])


def parse_kept(items: Sequence[JsonDict]) -> list[InputItem]:
    """Parse stored items."""
    return _KEPT_ITEMS.validate_python(items)


def item_id(kind: str, response_hex: str, index: int, *, input: bool = False) -> str:
    """Create an item's id, which contains the id of its response."""
    prefix = _ID_PREFIXES.get(kind, "item")
    return f"{prefix}_{response_hex}_{'in' if input else ''}{index}"


def response_of(id: str) -> str | None:
    """Return the id of the response that an item belongs to; None for an id in another format."""
    match = _ITEM_ID.fullmatch(id)
    return None if match is None else f"resp_{match[1]}"


_ID_PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
    "additional_tools": "at",
    "configuration_update": "cu",
    "reasoning": "rs",
    "compaction": "cmp",
    "compaction_trigger": "cmt",
}


def kept_item(item: InputItem, id: str) -> JsonDict:
    """Return an item as it is stored and listed: with an id, and in its long form."""
    match item:
        case MessageItem():
            return {
                "id": id,
                "type": "message",
                "status": "completed",
                "role": item.role,
                "content": _kept_content(item.content, answer=item.role == "assistant"),
            }
        case FunctionCallItem():
            return {
                "id": id,
                "type": "function_call",
                "status": item.status or "completed",
                "call_id": item.call_id,
                "name": item.name,
                "arguments": item.arguments,
                **({"namespace": item.namespace} if item.namespace else {}),
            }
        case FunctionOutputItem():
            output = item.output
            return {
                "id": id,
                "type": "function_call_output",
                "status": "completed",
                "call_id": item.call_id,
                "output": output if isinstance(output, str) else _kept_content(output),
            }
        case CustomCallItem() | SearchCallItem() | CustomOutputItem() | SearchOutputItem():
            return {**_kept(item), "id": id, "status": item.status or "completed"}
        case AdditionalToolsItem() | ConfigurationItem() | CompactionTriggerItem():
            return {**_kept(item), "id": id}
        case ReasoningItem():
            summary = item.summary if isinstance(item.summary, list) else []
            return {"id": id, "type": "reasoning", "summary": summary}
        case HostedItem() | CompactionItem():
            return {**_kept(item), "id": id}
        case ItemReference() | OtherItem():
            raise AssertionError("never kept")
        case _:
            assert_never(item)


def _kept(item: WireModel) -> JsonDict:
    kept: JsonDict = item.model_dump(exclude_none=True, by_alias=True)
    return kept


def kind_of(item: InputItem) -> str:
    """Return the type of an item, which a message may omit."""
    return item.type or "message"


def _kept_content(content: Content, *, answer: bool = False) -> list[JsonDict]:
    if isinstance(content, str):
        return [_kept_text(content, answer)]
    return [_kept_part(part, answer) for part in content or ()]


def _kept_part(part: ItemPart, answer: bool) -> JsonDict:
    match part:
        case InputText() | OutputText() | ContentPartText():
            return _kept_text(part.text, answer)
        case ContentPartRefusal():
            return {"type": "refusal", "refusal": part.refusal}
        case InputImage():
            detail = part.detail or "auto"
            return {"type": "input_image", "image_url": part.image_url, "detail": detail}
        case InputFile() | ContentPartInputAudio():
            kept: dict[str, Any] = part.model_dump(exclude_none=True)
            return kept
        case _:
            assert_never(part)


def _kept_text(text: str, answer: bool) -> JsonDict:
    if answer:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}
