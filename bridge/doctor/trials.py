"""The trials of `bridge doctor --live`: one request per feature that the bridge relies on. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from bridge.core.contract import (
    CompletionRequest,
    Effort,
    Event,
    Finished,
    Message,
    Model,
    OutputFormat,
    OutputKind,
    Role,
    Sampling,
    Started,
    TextDelta,
    TextPart,
    Tool,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
    Usage,
)

CODE_WORD: Final = "heliotrope"
# Long enough for every model's prompt cache, which stores no prefix below 4,096 tokens.
SYSTEM: Final = (
    f"Answer each message with the one word {CODE_WORD}, unless it asks for something else.\n"
    + "".join(f"Line {number} of this text says nothing of use.\n" for number in range(1, 501))
)
EXACT: Final = (
    "\u305d\u306e\u4ed6\uff08\u8981\u8a18\u5165\uff09 10 m\u00b2 \U0001f469\u200d\U0001f4bb"
)
"""Full-width brackets, a superscript, a joined emoji: normalising the text would change them."""
_MODELS: Final = 3
"""The number of models that are tried besides the default, with one request each."""


@dataclass(slots=True)
class Reply:
    """The answer to a trial."""

    text: str = ""
    calls: list[ToolCallPart] = field(default_factory=list)
    model: str = ""
    ignored: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    first_seconds: float | None = None

    def add(self, event: Event, seconds: float) -> None:
        """Add an event that arrived this many seconds after the request."""
        if self.first_seconds is None and not isinstance(event, Started):
            self.first_seconds = seconds
        match event:
            case Started(model, ignored):
                self.model, self.ignored = model, ignored
            case TextDelta(text):
                self.text += text
            case ToolCallStart(_, id, name):
                self.calls.append(ToolCallPart(id, name, ""))
            case ToolCallDelta(index, arguments):
                call = self.calls[index]
                self.calls[index] = replace(call, arguments=call.arguments + arguments)
            case Finished(_, usage):
                self.usage = usage

    @property
    def message(self) -> Message:
        """The answer, as a client sends it back."""
        text = (TextPart(self.text),) if self.text else ()
        return Message(Role.ASSISTANT, (*text, *self.calls))


Before = dict[str, tuple[CompletionRequest, Reply]]
"""Requests and answers by trial."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One feature that the bridge relies on."""

    id: str
    sentence: str
    request: Callable[[Before], CompletionRequest | None]
    """None if an earlier trial, whose answer it needs, was not answered."""
    otherwise: Callable[[Reply], str] = lambda reply: ""
    """How the answer differs from what was requested; empty if it does not."""
    fields: frozenset[str] = frozenset()
    """The engine's names of the fields that the API may refuse here."""


def _asking(text: str, **options: object) -> CompletionRequest:
    request = CompletionRequest(
        (Message(Role.USER, (TextPart(text),)),), system=SYSTEM, caller="doctor"
    )
    return replace(request, **options)  # type: ignore[arg-type]


def _continued(before: Before, trial: str, then: Message) -> CompletionRequest | None:
    if trial not in before:
        return None
    request, reply = before[trial]
    return replace(request, messages=(*request.messages, reply.message, then))


def _again(before: Before) -> CompletionRequest | None:
    request = _continued(before, "continue", _said("Once more, please."))
    # A conversation is continued for its own caller only: for another it is replayed.
    return None if request is None else replace(request, caller="doctor-replay")


def _said(text: str) -> Message:
    return Message(Role.USER, (TextPart(text),))


def _with_result(before: Before) -> CompletionRequest | None:
    if "tools" not in before or not before["tools"][1].calls:
        return None
    call = before["tools"][1].calls[0]
    result = ToolResultPart(call.id, (TextPart("noted"),))
    request = _continued(before, "tools", Message(Role.USER, (result,)))
    return None if request is None else replace(request, tool_choice=ToolChoice())


def _no_code_word(reply: Reply) -> str:
    return "" if CODE_WORD in reply.text.lower() else "the system prompt was not followed"


def _not_cached(reply: Reply) -> str:
    return "" if reply.usage.cache_read_tokens else "the prompt cache was not used"


def _no_json(reply: Reply) -> str:
    try:
        return "" if isinstance(json.loads(reply.text)["ok"], bool) else "not the requested JSON"
    except (ValueError, KeyError, TypeError):
        return "not the requested JSON"


def _inexact(reply: Reply) -> str:
    if [call.name for call in reply.calls] != ["choose"]:
        return "the tool was not called by its name"
    try:
        value = json.loads(reply.calls[0].arguments)["value"]
    except (ValueError, KeyError, TypeError):
        return "the arguments do not match the schema"
    return "" if value == EXACT else "the tool definition was changed on its way to the model"


_SCHEMA: Final = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
_TOOL: Final = Tool(
    "choose",
    "Choose the value.",
    {
        "type": "object",
        "properties": {"value": {"type": "string", "enum": [EXACT]}},
        "required": ["value"],
        "additionalProperties": False,
    },
)

TRIALS: Final = (
    Trial(
        "system",
        "a custom system prompt",
        lambda before: _asking("Which word?"),
        _no_code_word,
    ),
    Trial(
        "continue",
        "a continued conversation, read from the prompt cache",
        lambda before: _continued(before, "system", _said("And again?")),
        _not_cached,
    ),
    Trial("replay", "a replayed conversation, read from the prompt cache", _again, _not_cached),
    Trial(
        "json",
        "JSON through structured outputs",
        lambda before: _asking(
            "Say that all is well, as JSON.",
            output_format=OutputFormat(OutputKind.JSON_SCHEMA, schema=_SCHEMA),
        ),
        _no_json,
        frozenset({"output_config"}),
    ),
    Trial(
        "tools",
        "a forced tool, with its exact name and definition",
        lambda before: _asking(
            "Choose the only value that there is.",
            tools=(_TOOL,),
            tool_choice=ToolChoice(ToolMode.NAMED, "choose"),
        ),
        _inexact,
        frozenset({"tool_choice"}),
    ),
    Trial("results", "a tool's result in the same conversation", _with_result),
    Trial(
        "one call",
        "no parallel tool calls",
        lambda before: _asking(
            "Which word?", tools=(_TOOL,), tool_choice=ToolChoice(parallel=False)
        ),
    ),
    Trial("effort", "low effort", lambda before: _asking("Which word?", effort=Effort.LOW)),
    Trial(
        "sampling",
        "temperature and top_p",
        lambda before: _asking("Which word?", sampling=Sampling(temperature=0.5)),
        fields=frozenset({"temperature", "top_p"}),
    ),
    Trial(
        "stop",
        "stop sequences",
        lambda before: _asking("Which word?", sampling=Sampling(stop=("END OF ALL",))),
    ),
)


def trials_of(models: Sequence[Model]) -> list[Trial]:
    """All trials, with one for each available model besides the default."""
    seen = {model.resolved for model in models if model.default}
    others = []
    for model in models:
        if model.resolved in seen:
            continue
        seen.add(model.resolved)
        request = replace(_asking("Say yes."), system=None, model=model.id)
        others.append(Trial(f"model {model.resolved}", "this model", partial(_always, request)))
    return [*TRIALS, *others[:_MODELS]]


def _always(request: CompletionRequest, before: Before) -> CompletionRequest:
    return request
