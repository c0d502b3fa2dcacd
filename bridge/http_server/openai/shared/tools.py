"""Tools and the choice among them, in today's form and the deprecated one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, assert_never

from bridge.core.contract import InvalidRequestError, Tool, ToolChoice, ToolMode, UnsupportedError
from bridge.core.validation import missing
from bridge.http_server.openai.shared.content import note_extras
from bridge.http_server.openai.shared.parameters import Ignored
from bridge.http_server.openai.shared.wire_tools import (
    AllowedTools,
    FunctionDefinition,
    ToolChoiceObject,
    ToolDefinition,
)

if TYPE_CHECKING:
    from bridge.http_server.openai.chat import ChatCompletionRequest

MODES: Final[Mapping[str, ToolMode]] = {
    "none": ToolMode.NONE,
    "auto": ToolMode.AUTO,
    "required": ToolMode.REQUIRED,
}


def decode_tools(
    request: ChatCompletionRequest, ignored: Ignored
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Return the tools on offer and how the model is to use them."""
    if request.functions:
        return _decode_functions(request, ignored)
    if request.function_call is not None:
        raise InvalidRequestError(
            "'function_call' belongs to 'functions'. With 'tools', use 'tool_choice'.",
            field="function_call",
        )
    tools = _decode_definitions(request.tools or (), ignored)
    parallel = request.parallel_tool_calls is not False
    choice = request.tool_choice
    if choice is None:
        return tools, ToolChoice(parallel=parallel)
    if isinstance(choice, str):
        return tools, ToolChoice(MODES[choice], parallel=parallel)
    return tools, _decode_object(choice, parallel)


def _decode_object(choice: ToolChoiceObject, parallel: bool) -> ToolChoice:
    match choice.type:
        case "custom":
            raise UnsupportedError(
                "This server knows function tools only.", field="tool_choice.type"
            )
        case "function":
            if choice.function is None:
                raise missing("tool_choice.function", "It names the function to call.")
            return ToolChoice(ToolMode.NAMED, choice.function.name, parallel)
        case "allowed_tools":
            if choice.allowed_tools is None:
                raise missing("tool_choice.allowed_tools")
            mode = MODES[choice.allowed_tools.mode]
            return ToolChoice(mode, parallel=parallel, allowed=_allowed(choice.allowed_tools))
        case _:
            assert_never(choice.type)


def _allowed(allowed: AllowedTools) -> tuple[str, ...]:
    names = [reference.function.name for reference in allowed.tools]
    return some_allowed(names, "tool_choice.allowed_tools.tools")


def some_allowed(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names of the tools that may be called, which `where` holds: at least one."""
    if not names:
        raise InvalidRequestError(
            f"'{where}' is empty. Name the tools that may be called.", field=where
        )
    return tuple(names)


def _decode_functions(
    request: ChatCompletionRequest, ignored: Ignored
) -> tuple[tuple[Tool, ...], ToolChoice]:
    for name, value in (("tools", request.tools), ("tool_choice", request.tool_choice)):
        if value:
            raise InvalidRequestError(
                f"'{name}' cannot be used together with the deprecated 'functions'.", field=name
            )
    tools = tuple(
        decode_function(function, "functions", f"functions[{index}]", ignored)
        for index, function in enumerate(request.functions or ())
    )
    choice = request.function_call
    # The deprecated reply has room for one call.
    if choice is None or isinstance(choice, str):
        return tools, ToolChoice(MODES[choice or "auto"], parallel=False)
    return tools, ToolChoice(ToolMode.NAMED, choice.name, parallel=False)


def _decode_definitions(
    definitions: Sequence[ToolDefinition], ignored: Ignored
) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, definition in enumerate(definitions):
        where = f"tools[{index}]"
        if definition.type not in (None, "function"):
            raise UnsupportedError(
                f"'{where}.type' is '{definition.type}'. This server knows function tools only.",
                field=f"{where}.type",
            )
        if definition.function is None:
            raise missing(f"{where}.function", "Name and parameters belong inside it.")
        note_extras(definition, "tools", where, ignored)
        function = definition.function
        tools.append(decode_function(function, "tools.function", f"{where}.function", ignored))
    return tuple(tools)


def decode_function(function: FunctionDefinition, name: str, where: str, ignored: Ignored) -> Tool:
    """Read a function on offer. `name` is its kind of place, `where` its own one."""
    if function.strict:
        ignored.add(f"{name}.strict", f"{where}.strict")
    note_extras(function, name, where, ignored)
    return Tool(function.name, function.description or "", function.parameters or {})
