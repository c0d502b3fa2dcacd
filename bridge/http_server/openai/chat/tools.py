"""Tools and tool choice, in the current form and the deprecated one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from bridge.core.contract import InvalidRequestError, Tool, ToolChoice, ToolMode, UnsupportedError
from bridge.core.validation import missing
from bridge.http_server.openai.chat.wire import ChatCompletionRequest
from bridge.http_server.openai.shared.tools import MODES, decode_function
from bridge.http_server.openai.shared.wire_tools import (
    AllowedToolsChoice,
    FunctionChoice,
    ToolChoiceObject,
    ToolDefinition,
)


def decode_tools(request: ChatCompletionRequest) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Decode the offered tools and the tool choice."""
    if request.functions:
        return _decode_functions(request)
    if request.function_call is not None:
        raise InvalidRequestError(
            "'function_call' requires 'functions'. With 'tools', use 'tool_choice'.",
            field="function_call",
        )
    tools = _decode_definitions(request.tools or ())
    parallel = request.parallel_tool_calls is not False
    choice = request.tool_choice
    if choice is None:
        return tools, ToolChoice(parallel=parallel)
    if isinstance(choice, str):
        return tools, ToolChoice(MODES[choice], parallel=parallel)
    return tools, _decode_object(choice, parallel)


def _decode_object(choice: ToolChoiceObject, parallel: bool) -> ToolChoice:
    match choice:
        case FunctionChoice(function=function):
            return ToolChoice(ToolMode.NAMED, function.name, parallel)
        case AllowedToolsChoice(allowed_tools=allowed):
            names = tuple(reference.function.name for reference in allowed.tools)
            return ToolChoice(MODES[allowed.mode], parallel=parallel, allowed=names)
        case _:
            assert_never(choice)


def _decode_functions(request: ChatCompletionRequest) -> tuple[tuple[Tool, ...], ToolChoice]:
    for name, value in (("tools", request.tools), ("tool_choice", request.tool_choice)):
        if value:
            raise InvalidRequestError(
                f"'{name}' cannot be used together with the deprecated 'functions'.", field=name
            )
    tools = tuple(map(decode_function, request.functions or ()))
    choice = request.function_call
    # A reply in the deprecated form has room for one call.
    if choice is None or isinstance(choice, str):
        return tools, ToolChoice(MODES[choice or "auto"], parallel=False)
    return tools, ToolChoice(ToolMode.NAMED, choice.name, parallel=False)


def _decode_definitions(definitions: Sequence[ToolDefinition]) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, definition in enumerate(definitions):
        where = f"tools[{index}]"
        if definition.type not in (None, "function"):
            raise UnsupportedError(
                f"'{where}.type' is '{definition.type}'. This server only supports function tools.",
                field=f"{where}.type",
            )
        if definition.function is None:
            raise missing(f"{where}.function", "Put name and parameters inside it.")
        tools.append(decode_function(definition.function))
    return tuple(tools)
