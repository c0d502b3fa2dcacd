"""Plans how a session is prepared for a request.

A planner also remembers what the API has refused, so that it is not tried again: later requests
omit it and report that, or the bridge does it itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridge.core.claude import (
    TOOL_PREFIX,
    ExtraBody,
    Profile,
    ToolDefinition,
    TurnSettings,
    changed_by_cli,
    changes_arguments,
    exact_definitions,
    exact_schema,
    is_about,
    sampling_named_in,
    settings_of,
    turns_of,
    without_sampling,
)
from bridge.core.contract import (
    CompletionRequest,
    Effort,
    JsonObject,
    OutputKind,
    Place,
    Tool,
    ToolChoice,
    ToolMode,
    UnsupportedError,
)
from bridge.core.engine.free_text import as_function
from bridge.core.engine.planning.continuation import Scope
from bridge.core.engine.planning.field_names import errors_named_for
from bridge.core.engine.planning.models import Catalog
from bridge.core.engine.planning.plan import Plan
from bridge.core.engine.planning.thinking import ThinkingOrigins
from bridge.core.validation import any_scaled, for_api

ONLY_JSON = "Answer with one JSON object and nothing else: no text around it, no code fence."
CALL_ANY = "Answer this by calling one of the tools; do not answer in text alone."
CALL_ONE = "Answer this by calling the tool {name}; do not answer in text alone."

_TOOL_CHOICE = "tool_choice"
_OUTPUT = "output_config"
_NO_SUCH_FIELD = "Extra inputs are not permitted"
_EXTRA_BODY = "extra_body"


@dataclass(slots=True)
class Planner:
    """Makes plans, and remembers what the API refused."""

    default_system_prompt: str | None
    builtin_tools: bool = False
    """Whether Claude Code's own tools are on."""
    longest_variable: int | None = None
    """The maximum length of the whole extra body; None means unlimited."""
    catalog: Catalog = field(default_factory=Catalog)
    known_refusals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fields that were refused before this start, by the model's full name."""
    thinking: ThinkingOrigins = field(default_factory=ThinkingOrigins)
    _refused: dict[str | None, frozenset[str]] = field(default_factory=dict)
    """Fields by model."""
    _refused_schemas: dict[bytes, None] = field(default_factory=dict)
    """Hashes of schemas as JSON text, the oldest first."""

    def plan(self, request: CompletionRequest) -> Plan:
        """Plan a request; raises a BridgeError if it cannot be served. It is validated before."""
        names = request.field_names
        with errors_named_for(request):
            choice = self.catalog.choose(request.model, strict=request.strict)
        refused = self._refused_by(choice.name)
        model = self.catalog.offered(choice.name) or choice.name or ""
        request, dropped = self._without_refused(request, model, refused)
        ignored = [*request.ignored, *dropped]
        if choice.replaced:
            ignored.append(names(Place("model")))
        turns = turns_of(request.messages, self._prefix)
        if changes_arguments(request.messages) or any_scaled(request.messages):
            ignored.append(names(Place("messages")))
        tools, tool_choice = tools_of(request)
        tools = tuple(map(as_function, tools))
        tools, instruction, force_call = self._forced(tools, tool_choice, refused)
        if force_call:
            tool_choice = ToolChoice(parallel=tool_choice.parallel)
        schema, native, late = self._output(request, refused)
        if schema is not None and exact_schema(schema) is not schema:
            ignored.append(names(Place("output_format")))
        if request.output_format.kind is OutputKind.JSON_OBJECT:
            instruction = f"{instruction} {ONLY_JSON}".strip()
        tools, definitions, changed = self._definitions(tools, native, late)
        if changed:
            ignored.append(names(Place("tools")))
        settings = settings_of(
            request, choice.name, tools, tool_choice, native, definitions, self._prefix
        )
        if not settings.thinking:
            ignored += map(names, _of_thinking(request))
        _refuse_if_strict(request, ignored)
        scope = Scope(
            request.caller,
            self._profile(request, settings, instruction, late),
            settings.model,
            settings.effort,
            settings.thinking,
            tools,
        )
        quoted = [names(Place("messages"))] if any(turn.has_quoted for turn in turns) else []
        named = tuple(dict.fromkeys((*ignored, *request.repaired, *quoted)))
        how = (force_call, schema, self._prefix, model)
        return Plan(request, scope, settings, turns[:-1], turns[-1], named, *how)

    def _without_refused(
        self, request: CompletionRequest, model: str, refused: frozenset[str]
    ) -> tuple[CompletionRequest, tuple[str, ...]]:
        """Return the request without what its model refuses, and the names of that."""
        request, sampling = without_sampling(request, refused)
        request, thinking = self.thinking.without_others(request, model)
        places = (Place(f"sampling.{name}") for name in sampling)
        return request, (*map(request.field_names, places), *thinking)

    @property
    def _prefix(self) -> str:
        return TOOL_PREFIX if self.builtin_tools else ""

    def _forced(
        self, tools: tuple[Tool, ...], choice: ToolChoice, refused: frozenset[str]
    ) -> tuple[tuple[Tool, ...], str, bool]:
        """Return whether the bridge itself enforces a call, and then the tools and the
        instruction."""
        forced = choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)
        # One of Claude Code's own tools would satisfy "any" tool, over and over.
        any_does = self.builtin_tools and choice.mode is ToolMode.REQUIRED
        if not forced or not (_TOOL_CHOICE in refused or any_does):
            return tools, "", False
        return *_insist(tools, choice), True

    def _profile(
        self, request: CompletionRequest, settings: TurnSettings, instruction: str, late: str
    ) -> Profile:
        system = request.system or self.default_system_prompt
        return Profile(
            system,
            settings.model if system is None else None,
            instruction,
            late,
        )

    def learn(self, plan: Plan, refusal: str) -> bool:
        """Record what an upstream refusal is about; False if that is unknown.

        If true, a new plan for the same request avoids the refused field.
        """
        body = plan.settings.extra_body
        fields = sampling_named_in(refusal, plan.request)
        if _forces(body) and is_about(refusal, _TOOL_CHOICE):
            fields |= {_TOOL_CHOICE}
        if fields:
            known = self._refused.get(plan.settings.model, frozenset())
            self._refused[plan.settings.model] = known | fields
            return True
        if body.output_schema and is_about(refusal, _OUTPUT):
            if _NO_SUCH_FIELD in refusal:
                # This applies to any schema.
                known = self._refused.get(plan.settings.model, frozenset())
                self._refused[plan.settings.model] = known | {_OUTPUT}
                return True
            self._refused_schemas[_hash(body.output_schema)] = None
            while len(self._refused_schemas) > _KEPT_SCHEMAS:
                del self._refused_schemas[next(iter(self._refused_schemas))]
            return True
        return False

    def refusals(self) -> dict[str, frozenset[str]]:
        """Return the fields that the API has refused, by the model's full name."""
        found = dict(self.known_refusals)
        for name, fields in self._refused.items():
            if model := self.catalog.offered(name) or name:
                found[model] = found.get(model, frozenset()) | fields
        return found

    def _refused_by(self, name: str | None) -> frozenset[str]:
        known = self.known_refusals.get(self.catalog.offered(name) or name or "", frozenset())
        return known | self._refused.get(name, frozenset())

    def _definitions(
        self, tools: tuple[Tool, ...], native: str, late: str
    ) -> tuple[tuple[Tool, ...], tuple[ToolDefinition, ...], bool]:
        """Return the tools, their definitions for the API, and whether these differ from the
        originals.

        There are no definitions if the CLI itself must send the tools, because others are offered
        besides the caller's.
        """
        exact = tuple(replace(tool, parameters=exact_schema(tool.parameters)) for tool in tools)
        changed = exact != tools
        mixed = late or self.builtin_tools
        if not mixed:
            definitions = exact_definitions(exact, self._prefix)
            if self._fits(len(native) + sum(len(each.as_json()) for each in definitions)):
                return exact, definitions, changed
        return exact, (), changed or changed_by_cli(exact)

    def _fits(self, size: int) -> bool:
        return self.longest_variable is None or size <= self.longest_variable

    def _output(
        self, request: CompletionRequest, refused: frozenset[str]
    ) -> tuple[JsonObject | None, str, str]:
        """Return the schema of the whole answer, the one for the API, and the one for the CLI."""
        schema = request.output_format.schema
        if request.output_format.kind is not OutputKind.JSON_SCHEMA or schema is None:
            return None, "", ""
        sent = exact_schema(schema)
        native = _as_text(for_api(sent))
        refusing = _OUTPUT in refused or _hash(native) in self._refused_schemas
        if refusing or not self._fits(len(native)):
            return schema, "", _as_text(sent)
        return schema, native, ""


_KEPT_SCHEMAS = 256


def tools_of(request: CompletionRequest) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Return the tools offered to the model, and how it chooses among them."""
    tools, choice = request.tools, request.tool_choice
    if choice.allowed:
        tools = tuple(tool for tool in tools if tool.name in choice.allowed)
    if not tools or choice.mode is ToolMode.NONE:
        return (), ToolChoice()
    return tools, choice


def _of_thinking(request: CompletionRequest) -> Iterator[Place]:
    """Yield the options that have no effect, or not their full effect, without thinking."""
    if request.effort is Effort.NONE:
        return
    if request.thinking is False:
        if request.effort in (Effort.XHIGH, Effort.MAX):
            yield Place("effort")
        return
    if request.effort is not None:
        yield Place("effort")
    if request.include_thinking and not request.thinking_by_default:
        yield Place("include_thinking")


def _insist(tools: tuple[Tool, ...], choice: ToolChoice) -> tuple[tuple[Tool, ...], str]:
    """Return the tools and the instruction that replace a forced choice."""
    if choice.mode is ToolMode.REQUIRED:
        return tools, CALL_ANY
    return (
        tuple(tool for tool in tools if tool.name == choice.name),
        CALL_ONE.format(name=choice.name),
    )


def _forces(body: ExtraBody) -> bool:
    return bool(body.tool_choice) and json.loads(body.tool_choice)["type"] in ("any", "tool")


def _refuse_if_strict(request: CompletionRequest, ignored: Sequence[str]) -> None:
    if ignored and request.strict:
        raise UnsupportedError(
            f"No effect on this server or model, or not passed on as sent: {', '.join(ignored)}; "
            "and the request is strict. Remove them, or turn off strict mode.",
            field=ignored[0],
        )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _as_text(schema: Mapping[str, object]) -> str:
    return json.dumps(schema, sort_keys=True)
