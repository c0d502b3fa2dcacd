"""From a request to what the CLI is told: its profile, its settings and its stdin lines.

Pure functions on plain data. The history goes in as real turns; nothing of it is ever
flattened into text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from bridge.core.contract.request import (
    CompletionRequest,
    DocumentPart,
    Effort,
    ImagePart,
    InlineData,
    Message,
    Part,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
    UrlSource,
)

Wire: TypeAlias = dict[str, Any]

OPENING_PLACEHOLDER = "(The conversation begins with the assistant.)"
"""The user turn put before a history that starts with the assistant: the Messages API takes
none that does (https://platform.claude.com/docs/en/api/messages)."""


TOOL_PREFIX = "mcp__client__"
"""What the CLI puts before the names of the caller's tools."""

CLI_RETRIES = 2
"""How often the CLI itself tries a failed upstream call again."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is fixed for the life of a session, since the CLI takes it at `initialize` only."""

    system_prompt: str | None
    """None: Claude Code's own preset."""
    preset_model: str | None = None
    """The model that the preset is for: the CLI writes it for the model of its first turn and
    keeps it, whatever model is set later."""
    instruction: str = ""
    """What is added to the system prompt, whichever it is."""
    json_schema: str = ""
    """JSON Schema, as JSON text, that the CLI itself sees to, by a tool of its own."""
    started_with: TurnSettings | None = None
    """Settings that this CLI takes at its start only; None where it takes all of them later."""


@dataclass(frozen=True, slots=True)
class ExtraBody:
    """What is merged into the upstream request: these keys and no others.

    The CLI would let this replace the system prompt or the messages too, so nothing of a
    caller's ever becomes a key of it.
    """

    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()
    tool_choice: str = ""
    """JSON of the API's `tool_choice`; empty leaves it out."""
    output_schema: str = ""
    """JSON Schema as JSON text; empty leaves `output_config.format` out."""

    def as_json(self) -> str:
        """JSON for CLAUDE_CODE_EXTRA_BODY; empty when nothing is set."""
        body: Wire = {}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.top_p is not None:
            body["top_p"] = self.top_p
        if self.stop_sequences:
            body["stop_sequences"] = list(self.stop_sequences)
        if self.tool_choice:
            body["tool_choice"] = json.loads(self.tool_choice)
        if self.output_schema:
            schema = json.loads(self.output_schema)
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return json.dumps(body) if body else ""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """What may differ from turn to turn on a warm process; None means the default."""

    model: str | None = None
    effort: str | None = None
    max_output_tokens: int | None = None
    thinking: bool = True
    retries: int = CLI_RETRIES
    """How often the CLI itself tries a failed upstream call again."""
    extra_body: ExtraBody = ExtraBody()


EFFORT_LEVELS: Mapping[Effort, str] = {
    Effort.NONE: "low",
    Effort.LOW: "low",
    Effort.MEDIUM: "medium",
    Effort.HIGH: "high",
    Effort.XHIGH: "xhigh",
    Effort.MAX: "max",
}
"""The CLI's own names; NONE turns thinking off besides."""

SAMPLING_FIELDS = ("temperature", "top_p")
"""What some models refuse: https://platform.claude.com/docs/en/about-claude/models/migration-guide"""


BOTH = "temperature and top_p"
"""What other models refuse: the two at once."""


def sampling_named_in(text: str, request: CompletionRequest) -> frozenset[str]:
    """Which sampling fields of the request an upstream refusal is about."""
    named = frozenset(
        name
        for name in SAMPLING_FIELDS
        if getattr(request.sampling, name) is not None and is_about(text, name)
    )
    return frozenset({BOTH}) if len(named) > 1 else named


def is_about(refusal: str, field: str) -> bool:
    """Whether the API's words refuse this field of the request.

    It names a field at the head of its message or in backticks. What stands further on may be
    quoted from the request itself, and must teach nothing.
    """
    head = re.match(rf"(.*refused the request: )?{field}\b(?=[.: ])", refusal)
    return head is not None or f"`{field}`" in refusal


def without_sampling(
    request: CompletionRequest, refused: frozenset[str]
) -> tuple[CompletionRequest, tuple[str, ...]]:
    """The request without sampling fields that its model refuses, and which it had of them."""
    sampling = request.sampling
    given = [name for name in SAMPLING_FIELDS if getattr(sampling, name) is not None]
    names = [name for name in given if name in refused]
    if BOTH in refused and len(given) - len(names) > 1:
        names.append("top_p")
    if not names:
        return request, ()
    sampling = Sampling(
        None if "temperature" in names else sampling.temperature,
        None if "top_p" in names else sampling.top_p,
        sampling.stop,
    )
    return replace(request, sampling=sampling), tuple(names)


# https://platform.claude.com/docs/en/build-with-claude/extended-thinking: with thinking, top_p may
# be between 0.95 and 1, temperature is not changed and no tool is forced.
_LEAST_TOP_P_WITH_THINKING = 0.95


def settings_of(
    request: CompletionRequest,
    model: str | None,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = ToolChoice(),  # noqa: B008 - frozen
    output_schema: str = "",
) -> TurnSettings:
    """The settings of a request that is answered by `model` (None: the person's default).

    `tools` and `choice` are what is offered in the end, `output_schema` is the JSON Schema that
    the API itself is to keep to.
    """
    sampling = request.sampling
    forced = bool(tools) and choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)
    with_thinking = (
        request.effort is not Effort.NONE
        and sampling.temperature in (None, 1)
        and (sampling.top_p is None or sampling.top_p >= _LEAST_TOP_P_WITH_THINKING)
        and not forced
    )
    return TurnSettings(
        model=model,
        effort=None if request.effort is None else EFFORT_LEVELS[request.effort],
        max_output_tokens=request.max_output_tokens,
        thinking=with_thinking,
        extra_body=ExtraBody(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            # The API takes no blank ones; those are found by the bridge alone.
            stop_sequences=tuple(text for text in sampling.stop if text.strip()),
            tool_choice=_tool_choice(choice) if tools else "",
            output_schema=output_schema,
        ),
    )


def _tool_choice(choice: ToolChoice) -> str:
    wire: Wire
    match choice.mode:
        case ToolMode.NONE:
            # No tool is offered then.
            return ""
        case ToolMode.AUTO:
            if choice.parallel:
                return ""
            wire = {"type": "auto"}
        case ToolMode.REQUIRED:
            wire = {"type": "any"}
        case ToolMode.NAMED:
            wire = {"type": "tool", "name": f"{TOOL_PREFIX}{choice.name}"}
    if not choice.parallel:
        wire["disable_parallel_tool_use"] = True
    return json.dumps(wire)


SETTINGS = frozenset(setting.name for setting in fields(TurnSettings))
"""The names of what can differ from turn to turn."""


_NEVER = str(2**31 - 1)
"""The longest time that the CLI takes, in milliseconds: 24 days."""

_NOT_VARIABLES = frozenset({"model", "effort"})


def started_with(settings: TurnSettings, late: frozenset[str]) -> TurnSettings | None:
    """The settings that a process must be started with, where only `late` ones can be changed.

    None if that is nothing but defaults, so that any process does.
    """
    fixed = {name: getattr(settings, name) for name in SETTINGS - late}
    needed = TurnSettings(**fixed)
    return None if needed == TurnSettings() else needed


def setting_changes(
    before: TurnSettings | None, after: TurnSettings, late: frozenset[str] = SETTINGS
) -> Wire:
    """What `apply_flag_settings` must be told, or an empty dict when nothing differs.

    With `before` None everything is said, defaults too: the person's own settings may hold
    values for the same names, and these must not reach a caller. Only `late` settings are said.
    """
    unsaid = {name: getattr(before or TurnSettings(), name) for name in SETTINGS - late}
    after = replace(after, **unsaid)
    changes: Wire = {}
    differs = {
        name for name in late if before is None or getattr(before, name) != getattr(after, name)
    }
    if "model" in differs:
        changes["model"] = after.model
    if "effort" in differs:
        changes["effortLevel"] = after.effort
    if differs - _NOT_VARIABLES:
        # All of them: told any variable, the CLI first sets those of the person's own settings
        # again, over what it was told before.
        changes["env"] = _variables(late, after)
    return changes


def traced(changes: Wire, settings: TurnSettings, late: frozenset[str], trace_parent: str) -> Wire:
    """The changes, with the trace that the next turn belongs to (W3C `traceparent`)."""
    # All variables with it, for the reason given in `setting_changes`.
    variables = changes.get("env") or _variables(late, settings)
    return {**changes, "env": {**variables, "TRACEPARENT": trace_parent}}


def start_options(settings: TurnSettings) -> tuple[list[str], dict[str, str]]:
    """The same settings for a process that starts: arguments, and `env` of its `--settings`."""
    arguments: list[str] = []
    if settings.model is not None:
        arguments.append(f"--model={settings.model}")
    if settings.effort is not None:
        arguments.append(f"--effort={settings.effort}")
    return arguments, _variables(SETTINGS, settings)


def _variables(names: frozenset[str], settings: TurnSettings) -> dict[str, str]:
    # A call that waits for its caller's result is not given up by the CLI.
    variables = {"MCP_TOOL_TIMEOUT": _NEVER}
    for name in sorted(names - _NOT_VARIABLES):
        variables.update(_environment(name, settings))
    return variables


def _environment(name: str, settings: TurnSettings) -> dict[str, str]:
    """A setting as the CLI's environment variable; an empty value takes it back."""
    match name:
        case "max_output_tokens":
            limit = settings.max_output_tokens
            return {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "" if limit is None else str(limit)}
        case "thinking":
            return {"CLAUDE_CODE_DISABLE_THINKING": "" if settings.thinking else "1"}
        case "retries":
            return {"CLAUDE_CODE_MAX_RETRIES": str(settings.retries)}
        case "extra_body":
            return {"CLAUDE_CODE_EXTRA_BODY": settings.extra_body.as_json()}
        case _:
            raise AssertionError(name)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as the Messages API has it: alternating roles, content blocks."""

    role: Role
    content: tuple[Wire, ...]

    @property
    def tool_results(self) -> tuple[Wire, ...]:
        """The results in it. A turn with any cannot be rewound to by itself."""
        return tuple(block for block in self.content if block["type"] == "tool_result")


def turns_of(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """The conversation as alternating turns, from the user to the user.

    Neighbours of one role become one turn, as the API itself would make of them; messages
    without content are left out, and a history that starts with the assistant gets
    `OPENING_PLACEHOLDER` before it.
    """
    merged: list[tuple[Role, list[Wire]]] = []
    for message in messages:
        blocks = [block for part in message.parts if (block := _block(part)) is not None]
        if not blocks:
            continue
        if merged and merged[-1][0] is message.role:
            merged[-1][1].extend(blocks)
        else:
            merged.append((message.role, blocks))
    if merged and merged[0][0] is Role.ASSISTANT:
        merged.insert(0, (Role.USER, [{"type": "text", "text": OPENING_PLACEHOLDER}]))
    _tell_calls_apart(merged)
    return tuple(Turn(role, _results_first(blocks)) for role, blocks in merged)


def _tell_calls_apart(turns: Sequence[tuple[Role, list[Wire]]]) -> None:
    """Give a call whose id was used before another one, and its result with it.

    Some clients count the calls of each answer anew, and the CLI drops what it has seen.
    """
    uses: Counter[str] = Counter()
    for _, blocks in turns:
        for block in blocks:
            if block["type"] == "tool_use":
                uses[block["id"]] += 1
                block["id"] = _nth_use(block["id"], uses[block["id"]])
            elif block["type"] == "tool_result":
                call_id = block["tool_use_id"]
                block["tool_use_id"] = _nth_use(call_id, uses[call_id])


def _nth_use(call_id: str, use: int) -> str:
    return call_id if use <= 1 else legal_id(f"{call_id} #{use}")


def _results_first(blocks: list[Wire]) -> tuple[Wire, ...]:
    # The API wants a turn's tool results before anything else in it.
    results = [block for block in blocks if block["type"] == "tool_result"]
    return (*results, *(block for block in blocks if block["type"] != "tool_result"))


def _block(part: Part) -> Wire | None:
    match part:
        case TextPart(text):
            # The API takes no empty text block.
            return {"type": "text", "text": text} if text else None
        case ImagePart(source):
            return {"type": "image", "source": _source(source)}
        case DocumentPart(source, title):
            document: Wire = {"type": "document", "source": _source(source)}
            return document if title is None else {**document, "title": title}
        case ToolCallPart(id, name, arguments):
            return {
                "type": "tool_use",
                "id": legal_id(id),
                "name": TOOL_PREFIX + _legal(name),
                "input": json.loads(arguments),
            }
        case ToolResultPart(call_id, content, is_error):
            inner = [block for item in content if (block := _block(item)) is not None]
            result: Wire = {
                "type": "tool_result",
                "tool_use_id": legal_id(call_id),
                "content": inner,
            }
            return {**result, "is_error": True} if is_error else result


# https://platform.claude.com/docs/en/api/messages: ids and names of tools.
_LEGAL = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_NAME = 64


def legal_id(call_id: str) -> str:
    """A call's id as the API takes it: one made elsewhere is mapped, always to the same."""
    if _LEGAL.fullmatch(call_id):
        return call_id
    return "toolu_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _legal(name: str) -> str:
    """A tool's name as the API takes it: only a history made elsewhere can have another."""
    if _LEGAL.fullmatch(name) and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', name)[:50]}_{digest}"


def _source(source: InlineData | UrlSource) -> Wire:
    if isinstance(source, UrlSource):
        return {"type": "url", "url": source.url}
    if source.media_type == "text/plain":
        # The API takes only PDFs and images as base64; a text goes in as such.
        text = base64.b64decode(source.base64).decode("utf-8", "replace")
        return {"type": "text", "media_type": source.media_type, "data": text}
    return {"type": "base64", "media_type": source.media_type, "data": source.base64}


@dataclass(frozen=True, slots=True)
class UserLine:
    """A line on the CLI's stdin that carries a user turn."""

    id: str
    """The line's own uuid, by which it can be rewound."""
    wire: Wire
    rewindable: bool
    """False for tool results: the CLI takes those back with the turn they answer."""


def _new_id() -> str:
    return str(uuid.uuid4())


def user_line(
    turn: Turn,
    *,
    query: bool,
    cache_control: Wire | None = None,
    new_id: Callable[[], str] = _new_id,
) -> UserLine:
    """A user turn; with `query` the model answers it, without it is history.

    Every line is marked `client_composed`: without the mark the CLI would run slash commands
    in it and read local files that it mentions. `cache_control` goes onto its last block.
    """
    line_id = new_id()
    content = list(turn.content)
    if cache_control is not None:
        content[-1] = {**content[-1], "cache_control": cache_control}
    wire: Wire = {
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "session_id": "default",
        "client_composed": True,
        "uuid": line_id,
    }
    if not query:
        wire["shouldQuery"] = False
    return UserLine(line_id, wire, rewindable=not turn.tool_results)


def assistant_line(turn: Turn) -> Wire:
    """An earlier answer, put into the conversation as it is."""
    return {
        "type": "assistant",
        "message": {"role": "assistant", "content": list(turn.content)},
        "parent_tool_use_id": None,
        "session_id": "default",
    }


def replay_lines(
    turns: Sequence[Turn], *, new_id: Callable[[], str] = _new_id
) -> Iterator[UserLine | Wire]:
    """The lines that put earlier turns into an empty conversation, in order."""
    for turn in turns:
        if turn.role is Role.USER:
            yield user_line(turn, query=False, new_id=new_id)
        else:
            yield assistant_line(turn)
