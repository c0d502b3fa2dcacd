"""RecentRequest in the words of the session log, which are HTTP's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from bridge.v1 import pool_pb2

NAMES: Final[Mapping[str, str]] = {
    "end_time": "time",
    "requested_model": "model_asked",
    "session_source": "session",
    "queue_duration": "queue_ms",
    "first_token_duration": "first_token_ms",
    "total_duration": "total_ms",
    "finish_reason": "finish",
    "error_reason": "error",
}
"""Fields and their names in the log; those that are not here have the same name in both."""

TOKENS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
"""What the log has of Usage."""
COSTS = ("cost_usd", "billed", "payer")
"""What the log has of Cost."""


def logged_names() -> set[str]:
    """What the log calls all the fields."""
    fields = {field.name for field in pool_pb2.RecentRequest.DESCRIPTOR.fields} - {"usage", "cost"}
    return {NAMES.get(name, name) for name in fields} | set(TOKENS) | set(COSTS)


def in_the_words_of_the_log(request: pool_pb2.RecentRequest) -> dict[str, Any]:
    told: dict[str, Any] = dict.fromkeys(logged_names())
    # What has no presence is not written where it is empty.
    told["key"] = ""
    if request.HasField("usage"):
        told |= {name: getattr(request.usage, name) for name in TOKENS}
    cost = request.cost
    told |= {"cost_usd": cost.usd if cost.HasField("usd") else None}
    told |= {"billed": cost.billed, "payer": cost.payer}
    for name, value in MessageToDict(request, preserving_proto_field_name=True).items():
        known = NAMES.get(name, name)
        if known.endswith("_ms"):
            told[known] = getattr(request, name).ToMilliseconds()
        elif known == "finish":
            told[known] = value.removeprefix("FINISH_REASON_").lower()
        elif known == "session":
            told[known] = value.removeprefix("SESSION_SOURCE_").lower()
        elif known == "api":
            told[known] = value.removeprefix("API_").lower()
        elif known == "unseen_calls":
            # JSON's way of a number of 64 bits is a text.
            told[known] = int(value)
        elif known not in ("usage", "cost"):
            told[known] = value
    return told
