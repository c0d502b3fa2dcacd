"""The tools of a Responses request, which it spells flat, and the choice among them."""

from __future__ import annotations

from bridge.core.contract import InvalidRequestError, Tool, ToolChoice, ToolMode, UnsupportedError
from bridge.core.validation import missing
from bridge.http_server.openai.responses.wire import OtherTool, ResponsesRequest, ResponseToolChoice
from bridge.http_server.openai.shared.tools import MODES, decode_function


def decode_response_tools(request: ResponsesRequest) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Return the tools on offer and how the model is to use them."""
    tools = _definitions(request)
    parallel = request.parallel_tool_calls is not False
    choice = request.tool_choice
    if choice is None:
        return tools, ToolChoice(parallel=parallel)
    if isinstance(choice, str):
        return tools, ToolChoice(MODES[choice], parallel=parallel)
    match choice.type:
        case "function":
            if choice.name is None:
                raise missing("tool_choice.name", "Put the function's name next to 'type'.")
            return tools, ToolChoice(ToolMode.NAMED, choice.name, parallel)
        case "allowed_tools":
            mode = MODES[choice.mode or "auto"]
            return tools, ToolChoice(mode, parallel=parallel, allowed=_allowed(choice))
        case other:
            raise _hosted("tool_choice.type", other)


def _allowed(choice: ResponseToolChoice) -> tuple[str, ...]:
    names = []
    for index, reference in enumerate(choice.tools or ()):
        where = f"tool_choice.tools[{index}]"
        if reference.type not in (None, "function"):
            raise _hosted(f"{where}.type", reference.type)
        if reference.name is None:
            raise missing(f"{where}.name")
        names.append(reference.name)
    if not names:
        where = "tool_choice.tools"
        raise InvalidRequestError(
            f"'{where}' is empty. Name the tools that may be called.", field=where
        )
    return tuple(names)


def _definitions(request: ResponsesRequest) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, definition in enumerate(request.tools or ()):
        where = f"tools[{index}]"
        if isinstance(definition, OtherTool):
            raise _hosted(f"{where}.type", definition.type)
        tools.append(decode_function(definition))
    return tuple(tools)


def _hosted(where: str, kind: str) -> InvalidRequestError:
    return UnsupportedError(
        f"'{where}' is '{kind}'. This server hosts no tools; it only supports function tools, "
        "which the caller runs.",
        field=where,
    )
