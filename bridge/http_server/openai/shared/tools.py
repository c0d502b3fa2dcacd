"""Tools and the choice among them, in today's form and the deprecated one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, assert_never

from bridge.core.contract import InvalidRequestError, Tool, ToolChoice, ToolMode, UnsupportedError
from bridge.core.validation import missing, no_such_tool, tool_twice, without_tools
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
        if choice == "required" and not tools:
            raise without_tools("tool_choice")
        return tools, ToolChoice(MODES[choice], parallel=parallel)
    return _decode_object(choice, tools, parallel)


def _decode_object(
    choice: ToolChoiceObject, tools: tuple[Tool, ...], parallel: bool
) -> tuple[tuple[Tool, ...], ToolChoice]:
    match choice.type:
        case "custom":
            raise UnsupportedError(
                "This server knows function tools only.", field="tool_choice.type"
            )
        case "function":
            if choice.function is None:
                raise missing("tool_choice.function", "It names the function to call.")
            name = choice.function.name
            check_on_offer(name, tools, "tool_choice.function.name")
            return tools, ToolChoice(ToolMode.NAMED, name, parallel)
        case "allowed_tools":
            if choice.allowed_tools is None:
                raise missing("tool_choice.allowed_tools")
            mode = MODES[choice.allowed_tools.mode]
            return _allowed(choice.allowed_tools, tools), ToolChoice(mode, parallel=parallel)
        case _:
            assert_never(choice.type)


def _allowed(allowed: AllowedTools, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    names = [reference.function.name for reference in allowed.tools]
    return allowed_only(names, tools, "tool_choice.allowed_tools.tools", ".function.name")


def allowed_only(
    names: Sequence[str], tools: tuple[Tool, ...], where: str, field: str
) -> tuple[Tool, ...]:
    """Return the tools of these names, all of which must be on offer.

    `where` holds the list of names, and `field` is where each of its members has the name.
    """
    if not names:
        raise InvalidRequestError(
            f"'{where}' is empty. Name the tools that may be called.", field=where
        )
    for index, name in enumerate(names):
        check_on_offer(name, tools, f"{where}[{index}]{field}")
    return tuple(tool for tool in tools if tool.name in names)


def _decode_functions(
    request: ChatCompletionRequest, ignored: Ignored
) -> tuple[tuple[Tool, ...], ToolChoice]:
    for name, value in (("tools", request.tools), ("tool_choice", request.tool_choice)):
        if value:
            raise InvalidRequestError(
                f"'{name}' cannot be used together with the deprecated 'functions'.", field=name
            )
    tools: list[Tool] = []
    for index, function in enumerate(request.functions or ()):
        add_function(tools, function, "functions", f"functions[{index}]", ignored)
    choice = request.function_call
    # The deprecated reply has room for one call.
    if choice is None or isinstance(choice, str):
        return tuple(tools), ToolChoice(MODES[choice or "auto"], parallel=False)
    check_on_offer(choice.name, tools, "function_call.name")
    return tuple(tools), ToolChoice(ToolMode.NAMED, choice.name, parallel=False)


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
        add_function(tools, definition.function, "tools.function", f"{where}.function", ignored)
    return tuple(tools)


def add_function(
    tools: list[Tool], function: FunctionDefinition, name: str, where: str, ignored: Ignored
) -> None:
    """Add a function to the tools on offer. `name` is its kind of place, `where` its own one."""
    if any(tool.name == function.name for tool in tools):
        raise tool_twice(function.name, f"{where}.name")
    if function.strict:
        ignored.add(f"{name}.strict", f"{where}.strict")
    note_extras(function, name, where, ignored)
    tools.append(Tool(function.name, function.description or "", function.parameters or {}))


def check_on_offer(name: str, tools: Sequence[Tool], where: str) -> None:
    """Refuse the name of a tool that is not on offer."""
    if not tools:
        raise without_tools(where)
    if all(tool.name != name for tool in tools):
        raise no_such_tool(name, where)
