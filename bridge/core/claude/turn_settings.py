"""What the CLI is given beside the messages: profile and settings of a turn. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bridge.core.claude.tool_definitions import ToolDefinition
from bridge.core.claude.wire import TOOL_PREFIX, Wire
from bridge.core.contract import CompletionRequest, Effort, Sampling, Tool, ToolChoice, ToolMode

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
    tools: tuple[ToolDefinition, ...] = ()
    """They take the place of all that the CLI would send; empty leaves that as it is."""

    def as_json(self) -> str:
        """JSON for CLAUDE_CODE_EXTRA_BODY; empty when nothing is set."""
        # Of JSON texts, put together and not parsed: the tools can be megabytes.
        body: dict[str, str] = {}
        if self.temperature is not None:
            body["temperature"] = json.dumps(self.temperature)
        if self.top_p is not None:
            body["top_p"] = json.dumps(self.top_p)
        if self.stop_sequences:
            body["stop_sequences"] = json.dumps(self.stop_sequences)
        if self.tool_choice:
            body["tool_choice"] = self.tool_choice
        if self.output_schema:
            form = _object(type='"json_schema"', schema=self.output_schema)
            body["output_config"] = _object(format=form)
        if self.tools:
            body["tools"] = f"[{', '.join(tool.as_json() for tool in self.tools)}]"
        return _object(**body) if body else ""


def _object(**fields: str) -> str:
    """A JSON object of fields that are JSON texts already."""
    return f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in fields.items())}}}"


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
    definitions: Sequence[ToolDefinition] = (),
) -> TurnSettings:
    """The settings of a request that is answered by `model` (None: the operator's default).

    `tools` and `choice` are what is offered in the end, `output_schema` is the JSON Schema that
    the API itself is to keep to, and `definitions` are sent in place of the CLI's own.
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
        effort=_effort(request.effort, with_thinking),
        max_output_tokens=request.max_output_tokens,
        thinking=with_thinking,
        extra_body=ExtraBody(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            # The API takes no blank ones; those are found by the bridge alone.
            stop_sequences=tuple(text for text in sampling.stop if text.strip()),
            tool_choice=_tool_choice(choice) if tools else "",
            output_schema=output_schema,
            tools=tuple(definitions),
        ),
    )


# https://platform.claude.com/docs/en/build-with-claude/effort: above that, thinking must be on.
_MOST_WITHOUT_THINKING = Effort.HIGH


def _effort(effort: Effort | None, with_thinking: bool) -> str | None:
    if not with_thinking and effort in (Effort.XHIGH, Effort.MAX):
        effort = _MOST_WITHOUT_THINKING
    return None if effort is None else EFFORT_LEVELS[effort]


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


_NEVER = str(2**31 - 1)
"""The longest time that the CLI takes, in milliseconds: 24 days."""


def setting_changes(before: TurnSettings | None, after: TurnSettings) -> Wire:
    """What `apply_flag_settings` must be sent, or an empty dict when nothing differs.

    With `before` None everything is sent, defaults too: the operator's own settings may hold
    values for the same names, and these must not reach a caller.
    """
    changes: Wire = {}
    if before is None or before.model != after.model:
        changes["model"] = after.model
    if before is None or before.effort != after.effort:
        changes["effortLevel"] = after.effort
    # All of them: sent any variable, the CLI first sets those of the operator's own settings
    # again, over what it was sent before.
    variables = environment_of(after)
    if before is None or environment_of(before) != variables:
        changes["env"] = variables
    return changes


def traced(changes: Wire, settings: TurnSettings, trace_parent: str) -> Wire:
    """The changes, with the trace that the next turn belongs to (W3C `traceparent`)."""
    # All variables with it, for the reason given in `setting_changes`.
    variables = changes.get("env") or environment_of(settings)
    return {**changes, "env": {**variables, "TRACEPARENT": trace_parent}}


class AppliedSettings:
    """The settings that a process holds."""

    def __init__(self) -> None:
        self._held: TurnSettings | None = None
        self.default_model: str | None = None
        """The model of turns that name none."""

    @contextmanager
    def changing(self, settings: TurnSettings, trace_parent: str) -> Iterator[Wire]:
        """Give what has to be sent for the next turn; it holds if nothing is raised meanwhile."""
        settings = replace(settings, model=settings.model or self.default_model)
        changes = setting_changes(self._held, settings)
        if trace_parent:
            changes = traced(changes, settings, trace_parent)
        if not changes:
            yield changes
            return
        # Until the answer is there it is not known which settings hold.
        self._held = None
        yield changes
        self._held = settings


def environment_of(settings: TurnSettings) -> dict[str, str]:
    """The settings as the CLI's environment variables; an empty value takes one back."""
    limit = settings.max_output_tokens
    return {
        # A call that waits for its caller's result is not given up by the CLI.
        "MCP_TOOL_TIMEOUT": _NEVER,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "" if limit is None else str(limit),
        "CLAUDE_CODE_DISABLE_THINKING": "" if settings.thinking else "1",
        "CLAUDE_CODE_MAX_RETRIES": str(settings.retries),
        "CLAUDE_CODE_EXTRA_BODY": settings.extra_body.as_json(),
    }
