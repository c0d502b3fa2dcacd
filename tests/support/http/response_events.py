"""Checks a stream of the Responses API against the official client's types, event by event."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, get_args

from openai.types.responses import Response, ResponseStreamEvent

_UNION = get_args(get_args(ResponseStreamEvent)[0])
EVENT_TYPES: dict[str, Any] = {
    get_args(cls.model_fields["type"].annotation)[0]: cls for cls in _UNION
}
"""The client's classes by the type they are for."""

_STARTED = (("response.created", "in_progress"), ("response.in_progress", "in_progress"))
_QUEUED = (
    ("response.created", "queued"),
    ("response.queued", "queued"),
    ("response.in_progress", "in_progress"),
)
"""How a stream begins: the events, and the status of the response in them."""

TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def parse_stream(body: bytes) -> list[dict[str, Any]]:
    """The events of a whole stream, which must be framed as OpenAI's are."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    assert blocks.pop() == "data: [DONE]"
    events = []
    for block in blocks:
        if block.startswith(":"):
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def check_response(response: dict[str, Any]) -> dict[str, Any]:
    """A response object, by the client's type."""
    Response.model_validate(response)
    assert not {field for field in _KEYS if field not in response}
    return response


_KEYS = (
    *("id", "object", "created_at", "completed_at", "status", "error", "incomplete_details"),
    *("instructions", "max_output_tokens", "metadata", "model", "output", "parallel_tool_calls"),
    *("previous_response_id", "reasoning", "service_tier", "store", "temperature", "text"),
    *("tool_choice", "tools", "top_p", "truncation", "usage", "background"),
)
"""What a response has even where it is null."""


@dataclass
class _Item:
    """An item as its events describe it."""

    added: dict[str, Any]
    text: str = ""
    part_open: bool = False
    part_closed: bool = False
    text_done: bool = False
    done: dict[str, Any] | None = None


@dataclass
class CheckedStream:
    """Walks a stream and holds each event against what came before it."""

    response_id: str = ""
    items: list[_Item] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def walk(self, events: list[dict[str, Any]]) -> CheckedStream:
        for number, event in enumerate(events):
            assert event["sequence_number"] == number
            kind = event["type"]
            EVENT_TYPES[kind].model_validate(event)
            assert not set(self.types) & set(TERMINAL), "nothing follows the last event"
            self._step(kind, event, number)
            self.types.append(kind)
        assert self.types[-1] in TERMINAL
        return self

    def _step(self, kind: str, event: dict[str, Any], number: int) -> None:
        match kind:
            case "response.created" | "response.queued" | "response.in_progress":
                self._under_way(kind, event, number)
            case "response.output_item.added":
                self._item_added(event)
            case "response.content_part.added" | "response.reasoning_summary_part.added":
                item = self._item(event)
                assert not item.part_open
                assert event["part"]["text"] == ""
                item.part_open = True
            case (
                "response.output_text.delta"
                | "response.reasoning_summary_text.delta"
                | "response.function_call_arguments.delta"
                | "response.custom_tool_call_input.delta"
            ):
                item = self._item(event)
                assert event["delta"] or "call" in kind
                item.text += event["delta"]
            case "response.output_text.done" | "response.reasoning_summary_text.done":
                self._text_done(self._item(event), event["text"])
            case "response.function_call_arguments.done":
                item = self._item(event)
                self._text_done(item, event["arguments"])
                assert event["name"] == item.added["name"]
            case "response.custom_tool_call_input.done":
                self._text_done(self._item(event), event["input"])
            case "response.content_part.done" | "response.reasoning_summary_part.done":
                item = self._item(event)
                assert item.text_done
                assert event["part"]["text"] == item.text
                item.part_closed = True
            case "response.output_item.done":
                self._item_done(event)
            case "error" | "response.compaction.compacting":
                pass
            case _:
                assert kind in TERMINAL, kind
                self._end(kind, event)

    def _under_way(self, kind: str, event: dict[str, Any], number: int) -> None:
        response = check_response(event["response"])
        begins = _QUEUED if response["background"] else _STARTED
        assert (kind, response["status"]) == begins[number]
        self.response_id = self.response_id or response["id"]
        assert response["id"] == self.response_id
        assert response["output"] == []
        assert response["usage"] is None

    def _item(self, event: dict[str, Any]) -> _Item:
        item: _Item = self.items[event["output_index"]]
        assert event["item_id"] == item.added["id"]
        assert item.done is None
        assert (
            item.part_open
            or item.added["type"].endswith("tool_call")
            or item.added["type"] == "function_call"
            or "part" in event
        )
        assert event.get("content_index", 0) == event.get("summary_index", 0) == 0
        return item

    def _item_added(self, event: dict[str, Any]) -> None:
        assert all(item.done for item in self.items), "one item at a time"
        assert "error" not in self.types
        assert event["output_index"] == len(self.items)
        item = event["item"]
        assert item.get("encrypted_content") == "" or item["status"] == "in_progress"
        self.items.append(_Item(item))

    def _text_done(self, item: _Item, text: str) -> None:
        assert not item.text_done
        assert item.text == text
        item.text_done = True

    def _item_done(self, event: dict[str, Any]) -> None:
        item, done = self.items[event["output_index"]], event["item"]
        assert item.text_done or done["type"] in ("tool_search_call", "compaction")
        assert item.done is None
        same = ("id", "namespace", "type", "role", "call_id", "name")
        assert [done.get(key) for key in same] == [item.added.get(key) for key in same]
        match done["type"]:
            case "message":
                (part,) = done["content"]
                assert item.part_closed
                assert part["text"] == item.text
                assert done["id"].startswith("msg_")
            case "reasoning":
                (part,) = done["summary"]
                assert item.part_closed
                assert part["text"] == item.text
                assert done["id"].startswith("rs_")
            case "function_call":
                assert done["arguments"] == item.text
                assert done["id"].startswith("fc_")
                assert done["call_id"] != done["id"]
            case "custom_tool_call":
                assert done["input"] == item.text
                assert done["id"].startswith("ctc_")
            case "compaction":
                assert done["encrypted_content"]
                assert done["id"].startswith("cmp_")
            case "tool_search_call":
                assert done["execution"] == "client"
                assert done["id"].startswith("tsc_")
        item.done = done

    def _end(self, kind: str, event: dict[str, Any]) -> None:
        response = check_response(event["response"])
        assert kind == f"response.{response['status']}"
        assert response["id"] == self.response_id
        whole = [item.done for item in self.items if item.done is not None]
        assert response["output"][: len(whole)] == whole
        # What did not end has no end, and is incomplete; a piece of a summary is nothing.
        left = response["output"][len(whole) :]
        open_items = [item for item in self.items if item.done is None]
        assert len(open_items) <= (kind != "response.completed")
        assert len(left) == sum(item.added["type"] != "compaction" for item in open_items)
        assert all(item["status"] == "incomplete" for item in left)
        assert (response["error"] is not None) == (kind == "response.failed")
        assert (response["incomplete_details"] is not None) == (kind == "response.incomplete")
        assert (response["completed_at"] is not None) == (kind == "response.completed")
        assert (response["usage"] is None) == (kind == "response.failed")
        assert (self.types[-1] == "error") == (kind == "response.failed")
        self.last = response


def check_stream(body: bytes) -> CheckedStream:
    """Walk the whole stream of a body."""
    return CheckedStream().walk(parse_stream(body))
