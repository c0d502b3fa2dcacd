"""Responses requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
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
    ToolChoice,
)
from bridge.core.validation import missing
from bridge.http_server.context import REASONING_HEADER, CallOptions, ReasoningDisplay
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.background.rules import Storage, storage_of
from bridge.http_server.openai.responses.compaction.summaries import (
    after_compaction,
    asks_to_compact,
    callers_messages,
    says_anything,
)
from bridge.http_server.openai.responses.echo import echo_of
from bridge.http_server.openai.responses.items import PASTS, PREVIOUS, Items, call_field
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
    CompactionTriggerItem,
    ConfigurationItem,
    InputItem,
    ItemReference,
    MessageItem,
    references_of,
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
    r"labels": "metadata",
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
    source: str = PREVIOUS
    """The parameter that names what it builds on: one of PASTS."""


class Purpose(Enum):
    """What a request for a response is sent for."""

    ANSWER = auto()
    """Or to compact, if its last item says so."""
    COUNT = auto()
    COMPACT = auto()


@dataclass(frozen=True, slots=True)
class ResponseCall:
    """A requested response, with what concerns its reply and its storage."""

    request: CompletionRequest
    hex: str
    """The id of the response to be, without its prefix."""
    echo: JsonDict
    """What the reply repeats of the request."""
    items: Sequence[JsonDict]
    """The request's own items, as they are kept."""
    tools: Mapping[str, OfferedTool]
    """The tools on offer, by the names that the model gets."""
    stream: bool
    storage: Storage
    previous: str | None
    conversation: str | None
    """The conversation that its items are added to."""
    compacts: bool = False
    """Whether the answer is to be a summary of the conversation."""
    messages: Sequence[JsonDict] = ()
    """Then the messages that stay beside the summary, as they are kept: all but the assistant's."""

    @property
    def store(self) -> bool:
        """Whether it is stored."""
        return self.storage is not Storage.NONE


def parse_responses(body: object, purpose: Purpose = Purpose.ANSWER) -> ResponsesRequest:
    """Parse the body of `POST /v1/responses`, without looking up anything stored.

    Unless it wants an answer, what is kept may be all of its input.
    """
    if (
        purpose is not Purpose.ANSWER
        and isinstance(body, dict)
        and any(body.get(name) is not None for name in PASTS)
    ):
        body = {**body, "input": [] if body.get("input") is None else body["input"]}
    if isinstance(body, dict) and body.get("input") is None and "messages" in body:
        raise missing(
            "input",
            "A request with 'messages' is for chat completions: POST /v1/chat/completions.",
        )
    if isinstance(body, dict):
        _refuse_nested(body.get("tools"))
    wire = parse(ResponsesRequest, body)
    if wire.conversation_id is not None and wire.previous_response_id is not None:
        raise InvalidRequestError(
            "'conversation' and 'previous_response_id' exclude one another. Omit one.",
            field="conversation",
        )
    references = [reference.id for reference in references_of(wire.input)]
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


# long: assembles the request from all parameters, which are decoded elsewhere.
def decode_responses(
    wire: ResponsesRequest,
    body: object,
    options: CallOptions,
    past: Past,
    response_hex: str,
    *,
    keeps: bool,
    purpose: Purpose = Purpose.ANSWER,
) -> ResponseCall:
    """Decode a request, given the stored items that it builds on.

    `response_hex` is the id of the new response, without its prefix; `keeps` says whether this
    server stores responses.
    """
    assert isinstance(body, dict)
    ignored, faults, storage = Ignored(strict=options.strict), Faults(), Storage.NONE
    with faults:
        refuse_blocking(wire.moderation)
    with faults:
        _check_include(wire.include or (), ignored)
    with faults:
        storage = storage_of(wire, ignored, keeps=keeps)
    if purpose is Purpose.COMPACT:
        with faults:
            _check_compacting(wire, ignored)
    items = _new_items(wire, past)
    earlier = [(item, past.source) for item in parse_kept(past.items)]
    compacts = purpose is Purpose.COMPACT or asks_to_compact(items)
    if compacts and not asks_to_compact(items):
        items.append(CompactionTriggerItem(type="compaction_trigger"))
    placed = [*earlier, *_placed(wire, items)]
    with faults:
        system, messages = _gathered(wire, placed, ignored, purpose)
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
    if compacts:
        # The answer is a text for the caller to hand back, whatever form another would have.
        tools, tool_choice, output_format, summarised = (), ToolChoice(), OutputFormat(), False
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
        include_thinking=(options.reasoning is ReasoningDisplay.ASKED or summarised)
        and not compacts,
        whole=wire.stream is not True,
        marks_cut_calls=True,
        labels=wire.metadata or {},
        ignored=ignored.names,
        field_names=_names(wire),
    )
    kept = [
        kept_item(item, item_id(kind_of(item), response_hex, index, input=True))
        for index, item in enumerate(items)
    ]
    return ResponseCall(
        request,
        hex=response_hex,
        echo=echo_of(wire, body),
        items=kept,
        tools=offered,
        stream=wire.stream is True,
        storage=storage,
        previous=wire.previous_response_id,
        conversation=wire.conversation_id,
        compacts=compacts,
        messages=callers_messages([*past.items, *kept]) if compacts else (),
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
    wire: ResponsesRequest,
    items: Sequence[tuple[InputItem, str]],
    ignored: Ignored,
    purpose: Purpose,
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, if there is one, and the turns, those of the past first."""
    if not items or (purpose is Purpose.ANSWER and items[-1][1] in PASTS):
        raise InvalidRequestError("'input' is empty. Add a message.", field="input")
    for item, where in items[:-1]:
        if isinstance(item, CompactionTriggerItem) and where not in PASTS:
            raise InvalidRequestError(
                f"'{where}' is a compaction_trigger, which can only be the last item.", field=where
            )
    gathered = Items(wire.instructions, ignored)
    for item, where in after_compaction(items):
        gathered.add(item, where)
    system, messages = gathered.finish()
    if isinstance(items[-1][0], CompactionTriggerItem) and not says_anything(messages):
        raise InvalidRequestError("'input' has nothing to compact. Add messages.", field="input")
    return system, messages


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
    found = parse_kept([past.referenced[reference.id] for reference in references_of(items)])
    resolved = iter(found)
    return [next(resolved) if isinstance(item, ItemReference) else item for item in items]


def _check_include(names: Sequence[str], ignored: Ignored) -> None:
    for index, name in enumerate(names):
        if name not in _NEVER_THERE | _ALWAYS_THERE | _WITHOUT_USE:
            ignored.add(f"include.{name}", f"include[{index}]")


def _check_compacting(wire: ResponsesRequest, ignored: Ignored) -> None:
    if wire.background:
        ignored.add("background", why="has no effect on compacting")
    if wire.stream:
        ignored.add("stream", why="has no effect on compacting, which is not streamed")
    if wire.store:
        ignored.add("store", why="has no effect on compacting, whose reply is not stored")


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
