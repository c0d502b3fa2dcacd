"""The tools of a Responses request, in its flat format, and the tool choice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, assert_never

from bridge.core.contract import (
    InvalidRequestError,
    Tool,
    ToolChoice,
    ToolMode,
    UnsupportedError,
    shown,
)
from bridge.core.validation import missing
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.responses.wire_items import (
    AdditionalToolsItem,
    InputItem,
    SearchOutputItem,
)
from bridge.http_server.openai.responses.wire_tools import (
    CustomTool,
    FunctionTool,
    NamedTool,
    NamespaceTool,
    OtherTool,
    ResponseTool,
    ResponseToolChoice,
    SearchTool,
)
from bridge.http_server.openai.shared.tools import MODES, decode_custom, decode_function
from bridge.http_server.wire import Ignored

SEARCH: Final = "tool_search"
_LONGEST: Final = 64


class ToolKind(Enum):
    """The format of a tool's calls."""

    FUNCTION = "function_call"
    CUSTOM = "custom_tool_call"
    SEARCH = "tool_search_call"


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """An offered tool, as the caller defined it."""

    kind: ToolKind
    name: str
    namespace: str | None
    tool: Tool
    """As the model gets it."""


def offered_function(name: str) -> OfferedTool:
    """Return a function of which only the name is known."""
    return OfferedTool(ToolKind.FUNCTION, name, None, Tool(name))


def flat_name(name: str, namespace: str | None) -> str:
    """Return the name by which the model knows a tool, unique within a request."""
    if not namespace:
        return name
    flat = f"{namespace}__{name}"
    if len(flat) <= _LONGEST:
        return flat
    digest = hashlib.sha256(flat.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{flat[: _LONGEST - 9]}_{digest}"


class OfferedTools:
    """Collects the tools of a request, by the names that the model sees."""

    def __init__(self, ignored: Ignored) -> None:
        self._ignored = ignored
        self.by_name: dict[str, OfferedTool] = {}
        self.hosted = ""
        """The kind of a hosted tool that was left out, if there was one."""

    def add(self, tools: Iterable[ResponseTool], where: str, *, again: bool = False) -> None:
        """Add the tools in `where`; with `again` they may have been added before."""
        for index, tool in enumerate(tools):
            place = f"{where}[{index}]"
            match tool:
                case FunctionTool() | CustomTool():
                    self._put(_offered(tool, None), place, again)
                case NamespaceTool():
                    self._put_all(tool, place, again)
                case SearchTool(execution="client"):
                    function = Tool(SEARCH, tool.description or "", tool.parameters or {})
                    self._put(OfferedTool(ToolKind.SEARCH, SEARCH, None, function), place, again)
                case SearchTool() | OtherTool():
                    self.hosted = tool.type
                    self._ignored.add(f"tools.{tool.type}", f"{place}.type", why=_WHY_HOSTED)
                case _:
                    assert_never(tool)

    def _put_all(self, namespace: NamespaceTool, place: str, again: bool) -> None:
        for index, inner in enumerate(namespace.tools):
            offered = _offered(inner, namespace.name)
            if index == 0 and namespace.description:
                said = f"{namespace.name}__*: {namespace.description}\n\n{offered.tool.description}"
                offered = replace(offered, tool=replace(offered.tool, description=said))
            self._put(offered, f"{place}.tools[{index}]", again)

    def _put(self, offered: OfferedTool, place: str, again: bool) -> None:
        before = self.by_name.get(offered.tool.name)
        if before is not None:
            same = (before.name, before.namespace) == (offered.name, offered.namespace)
            if not (same and again):
                raise InvalidRequestError(
                    f"'{place}.name': another tool has the name {shown(offered.tool.name)} too. "
                    "Rename one.",
                    field=f"{place}.name",
                )
        self.by_name[offered.tool.name] = offered

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools for the model."""
        return tuple(offered.tool for offered in self.by_name.values())


def _offered(tool: FunctionTool | CustomTool, namespace: str | None) -> OfferedTool:
    flat = flat_name(tool.name, namespace)
    if isinstance(tool, CustomTool):
        decoded, kind = decode_custom(flat, tool.description, tool.format), ToolKind.CUSTOM
    else:
        decoded, kind = replace(decode_function(tool), name=flat), ToolKind.FUNCTION
    return OfferedTool(kind, tool.name, namespace, decoded)


def decode_response_tools(
    request: ResponsesRequest, items: Sequence[tuple[InputItem, str]], ignored: Ignored
) -> tuple[Mapping[str, OfferedTool], tuple[Tool, ...], ToolChoice]:
    """Decode the offered tools, by the names that the model sees, and the tool choice.

    `items` are those of the conversation, each with its place in the request.
    """
    offered = OfferedTools(ignored)
    offered.add(request.tools or (), "tools")
    for item, where in items:
        if isinstance(item, AdditionalToolsItem | SearchOutputItem):
            offered.add(item.tools, f"{where}.tools", again=True)
    return offered.by_name, offered.tools, _choice(request, offered)


def _choice(request: ResponsesRequest, offered: OfferedTools) -> ToolChoice:
    parallel = request.parallel_tool_calls is not False
    choice = request.tool_choice
    if choice is None:
        return ToolChoice(parallel=parallel)
    if isinstance(choice, str):
        if choice == "required" and offered.hosted and not offered.by_name:
            raise _hosted("tool_choice", offered.hosted)
        return ToolChoice(MODES[choice], parallel=parallel)
    match choice.type:
        case "function" | "custom":
            if choice.name is None:
                raise missing("tool_choice.name", "Put the function's name next to 'type'.")
            return ToolChoice(ToolMode.NAMED, flat_name(choice.name, choice.namespace), parallel)
        case "tool_search" if SEARCH in offered.by_name:
            return ToolChoice(ToolMode.NAMED, SEARCH, parallel)
        case "allowed_tools":
            mode = MODES[choice.mode or "auto"]
            return ToolChoice(mode, parallel=parallel, allowed=_allowed(choice, offered))
        case other:
            raise _hosted("tool_choice.type", other)


def _allowed(choice: ResponseToolChoice, offered: OfferedTools) -> tuple[str, ...]:
    names: list[str] = []
    hosted: InvalidRequestError | None = None
    for index, reference in enumerate(choice.tools or ()):
        where = f"tool_choice.tools[{index}]"
        if reference.type == "namespace":
            names += _members(reference, offered)
        elif reference.type == SEARCH and SEARCH in offered.by_name:
            names.append(SEARCH)
        elif reference.type not in (None, "function", "custom"):
            hosted = _hosted(f"{where}.type", reference.type)
        elif reference.name is None:
            raise missing(f"{where}.name")
        else:
            names.append(flat_name(reference.name, reference.namespace))
    if not names:
        where = "tool_choice.tools"
        raise hosted or InvalidRequestError(
            f"'{where}' is empty. Name the tools that may be called.", field=where
        )
    return tuple(names)


def _members(reference: NamedTool, offered: OfferedTools) -> list[str]:
    return [name for name, tool in offered.by_name.items() if tool.namespace == reference.name]


_WHY_HOSTED: Final = "is a tool that this server does not host, so it has no effect"


def _hosted(where: str, kind: str | None) -> InvalidRequestError:
    return UnsupportedError(
        f"'{where}' is '{kind}'. This server hosts no tools; it only supports tools that the "
        'caller runs: function, custom, namespace, and tool_search with "execution": "client".',
        field=where,
    )
