"""The CLI's settings besides the messages: the profile and the settings of a turn. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bridge.core.claude.tool_definitions import ToolDefinition
from bridge.core.claude.wire import Wire
from bridge.core.contract import CompletionRequest, Effort, Sampling, Tool, ToolChoice, ToolMode

CLI_RETRIES = 2
"""How often the CLI itself retries a failed upstream call."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is fixed for the life of a session, since the CLI accepts it only at `initialize`."""

    system_prompt: str | None
    """None: Claude Code's own preset."""
    preset_model: str | None = None
    """The model that the preset is for: the CLI writes it for the model of its first turn and keeps
    it, even if another model is set later."""
    instruction: str = ""
    """Text added to the system prompt or to the preset."""
    json_schema: str = ""
    """JSON Schema, as JSON text, that the CLI itself enforces with a tool of its own."""


@dataclass(frozen=True, slots=True)
class ExtraBody:
    """The fields merged into the upstream request: these keys and no others.

    The CLI would allow this to replace the system prompt or the messages too, so callers never
    choose a key of it.
    """

    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()
    tool_choice: str = ""
    """JSON of the API's `tool_choice`; empty leaves it out."""
    output_schema: str = ""
    """JSON Schema as JSON text; empty leaves `output_config.format` out."""
    tools: tuple[ToolDefinition, ...] = ()
    """They replace the CLI's own tools; empty keeps those."""
    top_k: int | None = None

    def as_json(self) -> str:
        """Return JSON for CLAUDE_CODE_EXTRA_BODY; empty if nothing is set."""
        # JSON texts are joined and not parsed: the tools can be megabytes.
        body: dict[str, str] = {}
        if self.temperature is not None:
            body["temperature"] = json.dumps(self.temperature)
        if self.top_p is not None:
            body["top_p"] = json.dumps(self.top_p)
        if self.top_k is not None:
            body["top_k"] = json.dumps(self.top_k)
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
    """Return a JSON object of fields that are already JSON text."""
    return f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in fields.items())}}}"


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """What may differ from turn to turn on a warm process; None means the default."""

    model: str | None = None
    effort: str | None = None
    max_output_tokens: int | None = None
    thinking: bool = True
    retries: int = CLI_RETRIES
    """How often the CLI itself retries a failed upstream call."""
    extra_body: ExtraBody = ExtraBody()


EFFORT_LEVELS: Mapping[Effort, str] = {
    Effort.NONE: "low",
    Effort.LOW: "low",
    Effort.MEDIUM: "medium",
    Effort.HIGH: "high",
    Effort.XHIGH: "xhigh",
    Effort.MAX: "max",
}
"""The CLI's own names; NONE also turns thinking off."""


SAMPLING_FIELDS = ("temperature", "top_p", "top_k")
"""Refused by some models:
https://platform.claude.com/docs/en/about-claude/models/migration-guide"""


BOTH = "temperature and top_p"
"""Other models refuse both at once."""


def sampling_named_in(text: str, request: CompletionRequest) -> frozenset[str]:
    """Return the request's sampling fields that an upstream refusal is about."""
    named = frozenset(
        name
        for name in SAMPLING_FIELDS
        if getattr(request.sampling, name) is not None and is_about(text, name)
    )
    both = frozenset({"temperature", "top_p"})
    return named - both | {BOTH} if both <= named else named


def is_about(refusal: str, field: str) -> bool:
    """Whether the API's message refuses this field of the request.

    It names a field at the start of its message or in backticks. Later text may be quoted from the
    request itself and is ignored.
    """
    head = re.match(rf"(.*refused the request: )?{field}\b(?=[.: ])", refusal)
    return head is not None or f"`{field}`" in refusal


def without_sampling(
    request: CompletionRequest, refused: frozenset[str]
) -> tuple[CompletionRequest, tuple[str, ...]]:
    """Return the request without the sampling fields that its model refuses, and their names."""
    sampling = request.sampling
    given = [name for name in SAMPLING_FIELDS if getattr(sampling, name) is not None]
    names = [name for name in given if name in refused]
    if BOTH in refused and {"temperature", "top_p"} <= {*given} - {*names}:
        names.append("top_p")
    if not names:
        return request, ()
    kept = {name: getattr(sampling, name) for name in SAMPLING_FIELDS if name not in names}
    return replace(request, sampling=Sampling(stop=sampling.stop, **kept)), tuple(names)


# https://platform.claude.com/docs/en/build-with-claude/extended-thinking: with thinking, top_p may
# be between 0.95 and 1, temperature and top_k are not changed and no tool is forced.
_LEAST_TOP_P_WITH_THINKING = 0.95


def settings_of(
    request: CompletionRequest,
    model: str | None,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = ToolChoice(),  # noqa: B008 - frozen
    output_schema: str = "",
    definitions: Sequence[ToolDefinition] = (),
    prefix: str = "",
) -> TurnSettings:
    """Return the settings of a request answered by `model` (None: the operator's default).

    `tools` and `choice` are the final ones, `output_schema` is the JSON Schema that the API itself
    enforces, and `definitions` replace the CLI's own. `prefix` goes before a forced tool's name.
    """
    sampling = request.sampling
    forced = bool(tools) and choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)
    with_thinking = (
        request.effort is not Effort.NONE
        and request.thinking is not False
        and sampling.temperature in (None, 1)
        and (sampling.top_p is None or sampling.top_p >= _LEAST_TOP_P_WITH_THINKING)
        and sampling.top_k is None
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
            top_k=sampling.top_k,
            # The API accepts no blank stop texts; the bridge alone detects those.
            stop_sequences=tuple(text for text in sampling.stop if text.strip()),
            tool_choice=_tool_choice(choice, prefix) if tools else "",
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


def _tool_choice(choice: ToolChoice, prefix: str) -> str:
    wire: Wire
    match choice.mode:
        case ToolMode.NONE:
            # Then no tool is offered.
            return ""
        case ToolMode.AUTO:
            if choice.parallel:
                return ""
            wire = {"type": "auto"}
        case ToolMode.REQUIRED:
            wire = {"type": "any"}
        case ToolMode.NAMED:
            wire = {"type": "tool", "name": f"{prefix}{choice.name}"}
    if not choice.parallel:
        wire["disable_parallel_tool_use"] = True
    return json.dumps(wire)


_NEVER = str(2**31 - 1)
"""The longest timeout that the CLI accepts, in milliseconds: 24 days."""


def setting_changes(before: TurnSettings | None, after: TurnSettings) -> Wire:
    """Return the `apply_flag_settings` to send, or an empty dict if nothing differs.

    With `before` None everything is sent, including defaults: the operator's own settings may set
    the same names, and their values must not reach a caller.
    """
    changes: Wire = {}
    if before is None or before.model != after.model:
        changes["model"] = after.model
    if before is None or before.effort != after.effort:
        changes["effortLevel"] = after.effort
    # All of them: when sent any variable, the CLI first restores those of the operator's own
    # settings, over earlier values.
    variables = environment_of(after)
    if before is None or environment_of(before) != variables:
        changes["env"] = variables
    return changes


def traced(changes: Wire, settings: TurnSettings, trace_parent: str) -> Wire:
    """Return the changes with the trace that the next turn belongs to (W3C `traceparent`)."""
    # With all variables, for the reason given in `setting_changes`.
    variables = changes.get("env") or environment_of(settings)
    return {**changes, "env": {**variables, "TRACEPARENT": trace_parent}}


class AppliedSettings:
    """The settings in force in a process."""

    def __init__(self) -> None:
        self._held: TurnSettings | None = None
        self.default_model: str | None = None
        """The model of turns that name none."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables in force."""
        return environment_of(self._held or TurnSettings())

    @contextmanager
    def changing(self, settings: TurnSettings, trace_parent: str) -> Iterator[Wire]:
        """Yield the changes for the next turn; they count as applied unless an error is raised."""
        settings = replace(settings, model=settings.model or self.default_model)
        changes = setting_changes(self._held, settings)
        if trace_parent:
            changes = traced(changes, settings, trace_parent)
        if not changes:
            yield changes
            return
        # Until the answer arrives, it is unknown which settings apply.
        self._held = None
        yield changes
        self._held = settings


def environment_of(settings: TurnSettings) -> dict[str, str]:
    """Return the settings as the CLI's environment variables; an empty value unsets one."""
    limit = settings.max_output_tokens
    return {
        # The CLI must not give up on a call that waits for its caller's result.
        "MCP_TOOL_TIMEOUT": _NEVER,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "" if limit is None else str(limit),
        "CLAUDE_CODE_DISABLE_THINKING": "" if settings.thinking else "1",
        "CLAUDE_CODE_MAX_RETRIES": str(settings.retries),
        "CLAUDE_CODE_EXTRA_BODY": settings.extra_body.as_json(),
    }
