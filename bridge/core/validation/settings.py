"""Validates a request besides its messages: tools, sampling, time limits, output format."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from bridge.core.contract import (
    CompletionRequest,
    Faults,
    FieldNames,
    InvalidRequestError,
    OutputKind,
    Place,
    Sampling,
    Tool,
    ToolMode,
)
from bridge.core.validation.messages import (
    TOOL_NAME,
    invalid,
    missing,
    no_such_tool,
    tool_twice,
    without_tools,
)

MAX_STOP: Final = 4

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_settings(request: CompletionRequest) -> None:
    """Raise InvalidRequestError for the faults of a request besides its messages."""
    names, faults = request.field_names, Faults()
    _check_tools(request.tools, names, faults)
    with faults:
        _check_tool_choice(request, names)
    with faults:
        check_sampling(request.sampling, request.max_output_tokens, names)
    with faults:
        _check_output_format(request, names)
    with faults:
        _check_client_request_id(request.client_request_id, names)
    faults.raise_any()


def check_sampling(sampling: Sampling, max_output_tokens: int | None, names: FieldNames) -> None:
    """Raise InvalidRequestError for the faults of what depends on nothing else in a request.

    So they can be named with those of a request that cannot be decoded.
    """
    faults = Faults()
    with faults:
        _check_unit(sampling.temperature, names, "sampling.temperature")
    with faults:
        _check_unit(sampling.top_p, names, "sampling.top_p")
    with faults:
        if sampling.top_k is not None and sampling.top_k < 1:
            raise invalid(names(Place("sampling.top_k")), "an integer of at least 1")
    with faults:
        _check_stop(sampling.stop, names)
    with faults:
        if max_output_tokens is not None and max_output_tokens < 1:
            raise invalid(names(Place("max_output_tokens")), "at least 1")
    faults.raise_any()


def seconds_from(what: str, text: str, *, field: str) -> float:
    """Parse a time limit that is sent beside the request: `what` is its name, for the error in
    `field`.

    Raises InvalidRequestError unless it is a number of seconds above 0.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequestError(
            f"{what} must be a number of seconds above 0, such as 30.", field=field
        )
    return seconds


def _check_client_request_id(id: str, names: FieldNames) -> None:
    if id and not _REQUEST_ID.fullmatch(id):
        raise invalid(
            names(Place("client_request_id")), '1 to 64 letters, digits, "-", "_" and "."'
        )


def _check_tools(tools: Sequence[Tool], names: FieldNames, faults: Faults) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        with faults:
            if not _TOOL_NAME.fullmatch(tool.name):
                raise invalid(names(Place(f"tools[{index}].name")), TOOL_NAME)
            if tool.name in seen:
                raise tool_twice(tool.name, names(Place(f"tools[{index}].name")))
        seen.add(tool.name)


def _check_tool_choice(request: CompletionRequest, names: FieldNames) -> None:
    choice = request.tool_choice
    offered = {tool.name for tool in request.tools}
    for index, allowed in enumerate(choice.allowed):
        _check_on_offer(allowed, offered, names, f"tool_choice.allowed[{index}]")
    name = Place("tool_choice.name")
    match choice.mode:
        case ToolMode.REQUIRED if not offered:
            raise without_tools(names(Place("tool_choice.mode")))
        case ToolMode.NAMED:
            if not choice.name:
                raise missing(names(name))
            _check_on_offer(choice.name, offered, names, name.path)
            if choice.allowed and choice.name not in choice.allowed:
                raise InvalidRequestError(
                    "The named tool is not one of the allowed tools.", field=names(name)
                )
        case _ if choice.name:
            raise InvalidRequestError(
                "A tool name is allowed only if that tool must be called.", field=names(name)
            )


def _check_on_offer(name: str, offered: set[str], names: FieldNames, path: str) -> None:
    if not offered:
        raise without_tools(names(Place(path)))
    if name not in offered:
        raise no_such_tool(name, names(Place(path)))


def _check_stop(texts: Sequence[str], names: FieldNames) -> None:
    if len(texts) > MAX_STOP:
        raise invalid(names(Place("sampling.stop")), f"an array of at most {MAX_STOP}")
    for index, text in enumerate(texts):
        if not text:
            raise InvalidRequestError(
                "A stop sequence must not be empty.", field=names(Place(f"sampling.stop[{index}]"))
            )


def _check_unit(value: float | None, names: FieldNames, path: str) -> None:
    if value is None or 0 <= value <= 1:
        return
    # Both comparisons are false for NaN.
    expected = "at least 0" if value < 0 else "at most 1" if value > 1 else "a number"
    raise invalid(names(Place(path)), expected)


def _check_output_format(request: CompletionRequest, names: FieldNames) -> None:
    output, schema = request.output_format, Place("output_format.schema")
    if output.kind is OutputKind.JSON_SCHEMA:
        if output.schema is None:
            raise missing(names(schema))
    elif output.schema is not None:
        raise InvalidRequestError(
            "A schema is allowed only with the JSON Schema output format.", field=names(schema)
        )
    if output.kind is not OutputKind.TEXT and request.citations:
        # https://platform.claude.com/docs/en/build-with-claude/citations
        field = names(Place("output_format"))
        raise InvalidRequestError(
            f"'{field}' cannot be combined with citations. Remove one of them.", field=field
        )
