"""The rules of a request, once, for every way in. Pure."""

from bridge.core.validation.answers import UnfitAnswerError
from bridge.core.validation.builtin_tools import BuiltinTools, check_folder, parsed_rules
from bridge.core.validation.images import any_scaled, check_images, type_of
from bridge.core.validation.messages import (
    IMAGE_KINDS,
    NOT_EMPTY,
    OWN_IDS,
    TOOL_NAME,
    bad_document,
    bad_image,
    bad_result,
    call_id_twice,
    ends_with_assistant,
    invalid,
    media_misplaced,
    missing,
    no_data,
    no_such_tool,
    tool_twice,
    unanswered_call,
    unknown_call,
    without_tools,
)
from bridge.core.validation.schema_sizes import measure
from bridge.core.validation.schemas import fault_of, for_api
from bridge.core.validation.sizes import check_count, check_sizes, json_object
from bridge.core.validation.strict_json import NotJsonError, TooNestedError, parse_strict
from bridge.core.validation.time_limits import seconds_from
from bridge.core.validation.tool_results import check_failed_results

__all__ = [
    "IMAGE_KINDS",
    "NOT_EMPTY",
    "OWN_IDS",
    "TOOL_NAME",
    "BuiltinTools",
    "NotJsonError",
    "TooNestedError",
    "UnfitAnswerError",
    "any_scaled",
    "bad_document",
    "bad_image",
    "bad_result",
    "call_id_twice",
    "check_count",
    "check_failed_results",
    "check_folder",
    "check_images",
    "check_sizes",
    "ends_with_assistant",
    "fault_of",
    "for_api",
    "invalid",
    "json_object",
    "measure",
    "media_misplaced",
    "missing",
    "no_data",
    "no_such_tool",
    "parse_strict",
    "parsed_rules",
    "seconds_from",
    "tool_twice",
    "type_of",
    "unanswered_call",
    "unknown_call",
    "without_tools",
]
