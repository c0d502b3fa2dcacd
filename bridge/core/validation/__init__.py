"""The validation of requests, shared by all APIs. Pure."""

from bridge.core.validation.builtin_tools import BuiltinTools, check_folder, parsed_rules
from bridge.core.validation.calls import FREE_TEXT
from bridge.core.validation.images import any_scaled, type_of
from bridge.core.validation.messages import (
    NOT_EMPTY,
    TOOL_NAME,
    bad_image,
    bad_result,
    call_id_twice,
    invalid,
    media_misplaced,
    missing,
    unknown_call,
    without_effect,
)
from bridge.core.validation.request import is_large, validate, validate_opening
from bridge.core.validation.schema_sizes import measure
from bridge.core.validation.schemas import UnfitAnswerError, fault_of, for_api
from bridge.core.validation.settings import check_sampling, seconds_from
from bridge.core.validation.sizes import check_count, json_object
from bridge.core.validation.strict_json import NotJsonError, TooNestedError, parse_strict
from bridge.core.validation.turns import check_message

__all__ = [
    "FREE_TEXT",
    "NOT_EMPTY",
    "TOOL_NAME",
    "BuiltinTools",
    "NotJsonError",
    "TooNestedError",
    "UnfitAnswerError",
    "any_scaled",
    "bad_image",
    "bad_result",
    "call_id_twice",
    "check_count",
    "check_folder",
    "check_message",
    "check_sampling",
    "fault_of",
    "for_api",
    "invalid",
    "is_large",
    "json_object",
    "measure",
    "media_misplaced",
    "missing",
    "parse_strict",
    "parsed_rules",
    "seconds_from",
    "type_of",
    "unknown_call",
    "validate",
    "validate_opening",
    "without_effect",
]
