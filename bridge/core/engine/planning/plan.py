"""How a request is sent to a session, and how its answer is read."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from bridge.core.claude import (
    CONTINUABLE,
    AnswerReader,
    Turn,
    TurnSettings,
    deliverable,
    names_only,
)
from bridge.core.contract import (
    CompletionRequest,
    JsonObject,
    OutputKind,
    Tool,
    Usage,
)
from bridge.core.engine.answer_filters import (
    AnswerFilter,
    JsonFilter,
    RequiredCallFilter,
    StopFilter,
)
from bridge.core.engine.free_text import FreeTextFilter
from bridge.core.engine.planning.continuation import (
    Scope,
    answers_exactly,
    call_ids,
    fingerprint,
)
from bridge.core.pool import Need, Parking


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request is sent to a session, and how its answer is read."""

    request: CompletionRequest
    """The request, without fields that have no effect."""
    scope: Scope
    settings: TurnSettings
    history: tuple[Turn, ...]
    last: Turn
    ignored: tuple[str, ...]
    force_call: bool = False
    """Whether the bridge itself has to enforce a tool call."""
    schema: JsonObject | None = None
    """The schema that the whole answer has to match."""
    tool_prefix: str = ""
    """What the CLI puts before the names of the tools."""
    model: str = ""
    """The full name of the model that is asked, if it is known."""

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools as the CLI gets them; the API may also get their definitions."""
        tools = self.scope.tools
        return names_only(tools) if self.settings.extra_body.tools else tools

    def need(self) -> Need:
        """Return what the request needs of the pool; takes long for a large conversation."""
        may_continue = bool(self.history) and self._may_continue()
        return Need(
            self.scope.profile,
            self.scope.caller,
            fingerprint(self.scope, self.history) if may_continue else None,
        )

    @property
    def kind(self) -> Hashable:
        """Its caller and its profile, the key of `ParkingPolicy`."""
        return self.scope.caller, self.scope.profile

    def _may_continue(self) -> bool:
        calls = call_ids(self.history[-1])
        if not calls:
            return not self.last.tool_results
        return answers_exactly(calls, self.last) and all(map(deliverable, self.last.content))

    def reader(self, spent: Usage) -> AnswerReader:
        """Return a reader of the CLI's lines; see AnswerReader for the arguments."""
        return AnswerReader(
            spent=spent,
            include_thinking=self.request.include_thinking,
            include_signatures=self.request.include_signatures,
            include_citations=self.request.citations,
            ignored=self.ignored,
            structured=bool(self.scope.profile.json_schema),
            asked=self.request.model,
            tools=frozenset(tool.name for tool in self.scope.tools),
            prefix=self.tool_prefix,
        )

    def filters(self) -> tuple[AnswerFilter, ...]:
        """Return the filters of the events, in order; new ones for each attempt."""
        filters: list[AnswerFilter] = []
        request = self.request
        if request.sampling.stop:
            filters.append(StopFilter(request.sampling.stop))
        if self.force_call:
            filters.append(RequiredCallFilter(request.tool_choice.name))
        if request.output_format.kind is not OutputKind.TEXT:
            filters.append(JsonFilter())
        if texts := frozenset(tool.name for tool in request.tools if tool.free_text):
            filters.append(FreeTextFilter(texts))
        return tuple(filters)

    def parking(self, reader: AnswerReader) -> Parking | None:
        """Return how the conversation is held open after its answer; None if it is not.

        Takes long for a large conversation.
        """
        if reader.stop_reason not in CONTINUABLE:
            return None
        try:
            answer = reader.answer()
        except ValueError:
            return None
        if not answer.visible:
            # Claude Code asks the model for more, which the caller would not see.
            return None
        turns = (*self.history, self.last, answer)
        return Parking(fingerprint(self.scope, turns), call_ids(answer))
