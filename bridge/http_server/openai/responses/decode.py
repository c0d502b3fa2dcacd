"""Responses requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bridge.core.contract import (
    CompletionRequest,
    Effort,
    Faults,
    FieldNames,
    InvalidRequestError,
    Message,
    OutputFormat,
    OutputKind,
)
from bridge.core.validation import missing
from bridge.http_server.context import REASONING_HEADER, CallOptions, ReasoningDisplay
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.items import (
    PAST,
    Items,
    call_field,
)
from bridge.http_server.openai.responses.kept_items import (
    item_id,
    kept_item,
    kind_of,
    parse_kept,
)
from bridge.http_server.openai.responses.tools import OfferedTool, decode_response_tools
from bridge.http_server.openai.responses.wire import (
    Reasoning,
    ResponsesRequest,
    TextOptions,
)
from bridge.http_server.openai.responses.wire_items import (
    ConfigurationItem,
    InputItem,
    ItemReference,
    MessageItem,
)
from bridge.http_server.openai.shared.call import EFFORTS, decode_sampling, refuse_blocking
from bridge.http_server.wire import Ignored, apply_rules, names_by, parse

_NEVER_THERE: Final = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What may be asked to be included, and belongs to tools that are not hosted here."""

_ALWAYS_THERE: Final = frozenset({"message.input_image.image_url"})
_WITHOUT_USE: Final = frozenset({"reasoning.encrypted_content"})
"""Thinking to be handed back in a later request, which needs none."""

_FIELDS: Final[Mapping[str, str]] = {
    r"effort": "reasoning.effort",
    r"messages": "input",
    r"output_format\.schema": "text.format.schema",
    r"output_format": "text.format",
    r"sampling\.(temperature|top_p)": r"\1",
    r"tool_choice\.allowed(\[\d+\])": r"tool_choice.tools\1.name",
    r"tool_choice\.mode": "tool_choice",
}


@dataclass(frozen=True, slots=True)
class Past:
    """The stored items that a request builds on."""

    items: Sequence[JsonDict] = ()
    """The input and the output of all responses before, oldest first."""
    referenced: Mapping[str, JsonDict] = field(default_factory=dict)
    """Items that the request refers to, by id."""


@dataclass(frozen=True, slots=True)
class ResponseCall:
    """A requested response, with what concerns its reply and its storage."""

    request: CompletionRequest
    echo: JsonDict
    """What the reply repeats of the request."""
    items: Sequence[JsonDict]
    """The request's own items, as they are kept."""
    tools: Mapping[str, OfferedTool]
    """The tools on offer, by the names that the model gets."""
    stream: bool
    store: bool
    previous: str | None


def parse_responses(body: object) -> ResponsesRequest:
    """Parse the body of `POST /v1/responses`, without looking up anything stored."""
    if isinstance(body, dict) and body.get("input") is None and "messages" in body:
        raise missing(
            "input",
            "A request with 'messages' is for chat completions: POST /v1/chat/completions.",
        )
    if isinstance(body, dict):
        _refuse_nested(body.get("tools"))
    wire = parse(ResponsesRequest, body)
    references = [reference.id for reference in references_of(wire)]
    if len(set(references)) < len(references):
        raise InvalidRequestError("'input' refers to the same item twice.", field="input")
    return wire


def _refuse_nested(tools: object) -> None:
    """Raise for tools in the format of chat completions, with the remedy."""
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and "name" not in tool and isinstance(tool.get("function"), dict):
            raise missing(
                f"tools[{index}].name",
                "In the Responses API, put a tool's name and parameters next to its type, not in "
                "'function'.",
            )


def references_of(wire: ResponsesRequest) -> list[ItemReference]:
    """Return the items of a request that only reference a stored one."""
    items = wire.input
    if isinstance(items, str):
        return []
    return [item for item in items if isinstance(item, ItemReference)]


# long: assembles the request from all parameters, which are decoded elsewhere.
def decode_responses(
    wire: ResponsesRequest,
    body: object,
    options: CallOptions,
    past: Past,
    response_hex: str,
    *,
    keeps: bool,
) -> ResponseCall:
    """Decode a request, given the stored items that it builds on.

    `response_hex` is the id of the new response, without its prefix; `keeps` says whether this
    server stores responses.
    """
    assert isinstance(body, dict)
    ignored = Ignored(strict=options.strict)
    faults = Faults()
    with faults:
        refuse_blocking(wire.moderation)
    with faults:
        _check_include(wire.include or (), ignored)
    with faults:
        if wire.store and not keeps:
            ignored.add(
                "store", why="has no effect: storing responses is turned off on this server"
            )
    items = _new_items(wire, past)
    placed = [*((item, PAST) for item in parse_kept(past.items)), *_placed(wire, items)]
    with faults:
        system, messages = _gathered(wire, placed, ignored)
    with faults:
        offered, tools, tool_choice = decode_response_tools(wire, placed, ignored)
    with faults:
        output_format = _output_format(wire.text)
    effort, summarised = _reasoning(wire.reasoning, placed)
    with faults:
        sampling = decode_sampling(wire.temperature, wire.top_p, None, ignored)
    with faults:
        apply_rules(wire, body, ignored)
    faults.raise_any()
    request = CompletionRequest(
        messages=messages,
        model=wire.model or None,
        system=system,
        tools=tools,
        tool_choice=tool_choice,
        sampling=sampling,
        max_output_tokens=wire.max_output_tokens,
        output_format=output_format,
        effort=effort,
        include_thinking=options.reasoning is ReasoningDisplay.ASKED or summarised,
        whole=wire.stream is not True,
        marks_cut_calls=True,
        ignored=ignored.names,
        field_names=_names(wire),
    )
    return ResponseCall(
        request,
        echo=_echo(wire, body),
        items=[
            kept_item(item, item_id(kind_of(item), response_hex, index, input=True))
            for index, item in enumerate(items)
        ],
        tools=offered,
        stream=wire.stream is True,
        store=keeps and wire.store is not False,
        previous=wire.previous_response_id,
    )


def _names(wire: ResponsesRequest) -> FieldNames:
    reasoning = wire.reasoning or Reasoning()
    thinking = REASONING_HEADER
    if reasoning.summary:
        thinking = "reasoning.summary"
    elif reasoning.generate_summary:
        thinking = "reasoning.generate_summary"
    system = "instructions" if wire.instructions else "input"
    return names_by({**_FIELDS, r"include_thinking": thinking, r"system": system}, call_field)


def _placed(wire: ResponsesRequest, items: Sequence[InputItem]) -> Iterator[tuple[InputItem, str]]:
    """Return each item with its place in the request."""
    for index, item in enumerate(items):
        yield item, "input" if isinstance(wire.input, str) else f"input[{index}]"


def _gathered(
    wire: ResponsesRequest, items: Sequence[tuple[InputItem, str]], ignored: Ignored
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, if there is one, and the turns, those of the past first."""
    if not items or items[-1][1] == PAST:
        raise InvalidRequestError("'input' is empty. Add a message.", field="input")
    gathered = Items(wire.instructions, ignored)
    for item, where in items:
        gathered.add(item, where)
    return gathered.finish()


def _reasoning(
    reasoning: Reasoning | None, items: Sequence[tuple[InputItem, str]]
) -> tuple[Effort | None, bool]:
    """Return the effort, and whether a summary of the thinking is requested."""
    asked = [None if reasoning is None else reasoning.effort]
    for item, _ in items:
        if isinstance(item, ConfigurationItem) and item.reasoning is not None:
            asked.append(item.reasoning.effort)
    # The request's own, otherwise the newest of the conversation.
    effort = asked[0] or asked[-1]
    summarised = reasoning is not None and bool(reasoning.summary or reasoning.generate_summary)
    return None if effort is None else EFFORTS[effort], summarised


def _new_items(wire: ResponsesRequest, past: Past) -> list[InputItem]:
    if isinstance(wire.input, str):
        return [MessageItem(role="user", content=wire.input)]
    items = wire.input
    found = parse_kept([past.referenced[reference.id] for reference in references_of(wire)])
    resolved = iter(found)
    return [next(resolved) if isinstance(item, ItemReference) else item for item in items]


def _check_include(names: Sequence[str], ignored: Ignored) -> None:
    for index, name in enumerate(names):
        if name not in _NEVER_THERE | _ALWAYS_THERE | _WITHOUT_USE:
            ignored.add(f"include.{name}", f"include[{index}]")


def _output_format(text: TextOptions | None) -> OutputFormat:
    if text is None or text.format is None:
        return OutputFormat()
    kind = OutputKind(text.format.type)
    if kind is not OutputKind.JSON_SCHEMA:
        return OutputFormat(kind)
    schema = text.format.schema_
    if schema is None:
        raise missing("text.format.schema", "Put it next to 'type', not in 'json_schema'.")
    if text.format.description:
        # Only for a schema without its own description.
        schema = {"description": text.format.description, **schema}
    return OutputFormat(kind, text.format.name or "", schema)


_UNSAID: Final = {"description": None, "parameters": None, "strict": None}
"""What a reply says of a function where the request does not."""


def _echo(wire: ResponsesRequest, body: JsonDict) -> JsonDict:
    """Return the parameters that the reply repeats, with OpenAI's defaults."""
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    written = text.get("format") or {"type": "text"}
    if written["type"] == "json_schema":
        written = {"name": "", **written}
    return {
        "background": False,
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": wire.max_tool_calls,
        "metadata": wire.metadata or {},
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "previous_response_id": wire.previous_response_id,
        "prompt_cache_key": wire.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.get("effort"),
            "summary": reasoning.get("summary") or reasoning.get("generate_summary"),
        },
        "safety_identifier": wire.safety_identifier,
        "service_tier": "default",
        "temperature": 1.0 if wire.temperature is None else wire.temperature,
        "text": {"format": written, "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [
            {**_UNSAID, **tool, "type": "function"}
            if tool.get("type") in (None, "function")
            else tool
            for tool in body.get("tools") or ()
        ],
        "top_logprobs": 0,
        "top_p": 1.0 if wire.top_p is None else wire.top_p,
        "truncation": "disabled",
        "user": wire.user,
        # Not parameters of this API, but its published schema requires them in a reply.
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }
