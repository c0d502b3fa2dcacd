"""Turns the CLI's output into the events of an answer.

`AnswerReader` is a pure state machine: it is fed the lines of one turn and yields events. It passes
on only what the model itself streamed. Text that the CLI writes in the model's place, such as "API
Error: ...", is never part of an answer.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from enum import Enum, IntEnum, auto
from typing import Any

from bridge.core.claude.exact_numbers import parsed_exactly
from bridge.core.claude.failures import FailureReader
from bridge.core.claude.reading.call_usage import CallUsage
from bridge.core.claude.reading.offered_tools import OUTPUT_TOOL, OfferedTools
from bridge.core.claude.reading.optional_parts import CITATIONS, OPTIONAL, asked_for
from bridge.core.claude.turns import Turn
from bridge.core.claude.usage_limits import usage_limits_of
from bridge.core.claude.wire import Wire
from bridge.core.contract import (
    BridgeError,
    Event,
    Finished,
    FinishReason,
    Role,
    Started,
    TextDelta,
    TextStart,
    ToolCallDelta,
    ToolCallStart,
    UnavailableError,
    Usage,
    UsageLimits,
)

# https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
FINISH_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.REFUSAL,
    "pause_turn": FinishReason.LENGTH,
}

_CONTINUING = frozenset({"tool_use", "pause_turn"})
"""Stop reasons after which the CLI continues the same answer, unless it calls the caller's
tools."""

_THINKING = frozenset({"thinking", "redacted_thinking"})

PARAGRAPH = "\n\n"
"""Separates the texts before and after a call of the CLI's own tools."""

CONTINUABLE = frozenset({"end_turn", "stop_sequence", "tool_use"})
"""Stop reasons after which the CLI adds nothing to the conversation."""

_MOST_STRAYS = 3
"""How often the CLI may correct a model that calls tools which were not offered."""

_PREMATURE_END = "The answer ended prematurely. Retry the request."


class _Call(Enum):
    """State of the upstream call that the answer comes from."""

    OPEN = auto()
    """The model has not reported a stop reason."""
    CONTINUED = auto()
    """It has stopped, and the CLI continues the answer with another call."""
    PAUSED = auto()
    """It has paused its turn, which the CLI may continue."""


class _Stage(IntEnum):
    """Progress of an answer."""

    NOTHING = 0
    STARTED = 1
    """The model is known."""
    BEGUN = 2
    """The model has started to answer or to think."""
    PRODUCED = 3
    """Part of the answer was passed on."""


class AnswerReader:
    """Reads the lines of one turn."""

    def __init__(
        self,
        *,
        include_thinking: bool,
        include_signatures: bool = False,
        include_citations: bool = False,
        ignored: tuple[str, ...] = (),
        structured: bool = False,
        usage_limits: UsageLimits | None = None,
        spent: Usage = Usage(),  # noqa: B008 - frozen
        asked: str | None = None,
        tools: Container[str] | None = None,
        prefix: str = "",
    ) -> None:
        """With `structured`, the text of the answer is the input of the model's `StructuredOutput`
        call.

        `usage_limits` are those reported earlier: a process reports them only once. `spent` is the
        usage of earlier attempts at the same request. `asked` is the requested model, for error
        messages; None is the default model. `tools` are the names of the caller's tools on offer,
        without the CLI's `prefix`; with None, every call is taken as one of theirs.
        """
        self._shown = asked_for(
            thinking=include_thinking, signatures=include_signatures, citations=include_citations
        )
        self._structured = structured
        self._ignored = ignored
        self._offered = OfferedTools(tools, prefix, structured)
        self._stage = _Stage.NOTHING
        self._call = _Call.OPEN
        self._usage = CallUsage(spent)
        self._failures = FailureReader(asked)
        self._blocks: list[Wire] = []
        self._pieces: list[str] = []
        self._calls = self._strays = 0
        self._paragraph = ""
        self.stop_reason: str | None = None
        """Why the model stopped; None until it did. Later lines yield no events."""
        self.usage_limits = usage_limits
        """The account's usage limits, as last reported."""

    @property
    def begun(self) -> bool:
        """Whether the model has started to answer or to think."""
        return self._stage >= _Stage.BEGUN

    @property
    def usage(self) -> Usage:
        """Tokens of all upstream calls so far."""
        return self._usage.total

    @property
    def waiting(self) -> BridgeError | None:
        """Why the answer is delayed, while the CLI is about to retry a failed call."""
        return self._failures.waiting

    def feed(self, line: Wire) -> Iterator[Event]:
        """Yield the events of one line; raises a BridgeError if the turn failed."""
        kind = line["type"]
        if kind == "stream_event":
            if self.stop_reason is None and line.get("parent_tool_use_id") is None:
                yield from self._stream(line["event"])
        elif kind == "rate_limit_event":
            self.usage_limits = usage_limits_of(line) or self.usage_limits
        elif kind == "assistant":
            self._failures.note_answer(line)
        elif self.stop_reason is None:
            yield from self._about_the_turn(line)

    def _about_the_turn(self, line: Wire) -> Iterator[Event]:
        limited = self.limit_resets_at is not None
        if line["type"] == "result":
            if self._call is not _Call.PAUSED or line.get("is_error"):
                raise self._failures.of(line, limited=limited)
            # The CLI ends the turn here, although the model had not finished.
            yield self._end("pause_turn", {})
        elif line["type"] == "system" and line.get("subtype") == "api_retry":
            self._failures.note_retry(line, limited=limited)

    def _stream(self, event: Wire) -> Iterator[Event]:
        kind = event["type"]
        self._failures.waiting = None
        if kind == "content_block_delta":
            yield from self._delta(event["delta"])
        elif kind == "content_block_start":
            yield from self._block_start(event["content_block"])
        elif kind == "content_block_stop":
            yield from self._block_stop()
        elif kind == "message_start":
            yield from self._message_start(event["message"])
        elif kind == "message_delta":
            self._usage.report(event.get("usage") or {})
            reason = event["delta"].get("stop_reason")
            if reason is not None:
                yield from self._stop(reason, event["delta"])
        elif kind == "message_stop" and self._ended_prematurely and self._calls:
            # The CLI itself writes this end if the stream was cut. It still makes a call that was
            # complete by then, and would wait for its result. Without such a call, the CLI's own
            # result follows, which names the failure.
            raise UnavailableError(_PREMATURE_END)

    def _stop(self, reason: str, delta: Wire) -> Iterator[Event]:
        uses = {block["name"] for block in self._blocks if block["type"] == "tool_use"}
        calls = any(map(self._offered.include, uses))
        self._bound_strays(uses)
        if reason == "tool_use" and not calls and OUTPUT_TOOL in uses:
            # The CLI would continue with a turn in which the model only confirms the call.
            reason = "structured_output"
        elif reason in _CONTINUING and not calls:
            self._call = _Call.PAUSED if reason == "pause_turn" else _Call.CONTINUED
            # Text after a call of the CLI's own tools is another paragraph.
            another = reason == "tool_use" and not self._structured and self._text_so_far()
            self._paragraph = PARAGRAPH if another else ""
            # None of these calls is the caller's.
            self._blocks = [block for block in self._blocks if block["type"] != "tool_use"]
            return
        elif self._structured and reason == "end_turn":
            # The CLI asks the model again for the missing call.
            self._call = _Call.CONTINUED
            return
        yield self._end(reason, delta)

    def _end(self, reason: str, delta: Wire) -> Finished:
        self.stop_reason = reason
        return Finished(
            FINISH_REASONS.get(reason, FinishReason.STOP),
            self.usage,
            delta.get("stop_sequence"),
            reason if reason in FINISH_REASONS else None,
            delta.get("stop_details"),
        )

    @property
    def _ended_prematurely(self) -> bool:
        """Whether a call ended without a stop reason after part of it was passed on."""
        return self._stage is _Stage.PRODUCED and self._call is _Call.OPEN

    def _message_start(self, message: Wire) -> Iterator[Event]:
        if self._ended_prematurely:
            # The CLI retries after a break. What was passed on cannot be taken back, and a second
            # start must not be joined to the first.
            raise UnavailableError(_PREMATURE_END)
        if self._call is _Call.OPEN:
            # What ended prematurely is neither part of the answer nor an ongoing thought.
            self._blocks = []
        self._call = _Call.OPEN
        self._usage.next_call(message.get("usage") or {})
        if self._stage is _Stage.NOTHING:
            self._stage = _Stage.STARTED
            yield Started(message.get("model") or "", self._ignored, self.usage)

    @property
    def thinking(self) -> bool:
        """Whether the model is thinking, possibly without any output."""
        # The count is reduced again when thinking ends.
        return bool(self._blocks) and self._blocks[-1]["type"] in _THINKING

    def _block_start(self, block: Wire) -> Iterator[Event]:
        self._stage = max(self._stage, _Stage.BEGUN)
        self._blocks.append(block)
        self._pieces = []
        if block["type"] == "tool_use" and self._offered.include(block["name"]):
            if self._structured and (text := self._text_so_far()):
                yield TextDelta(text)
            self._stage = _Stage.PRODUCED
            self._calls += 1
            yield ToolCallStart(self._calls - 1, block["id"], self._offered.bare(block["name"]))
        elif block["type"] in self._shown:
            self._stage = _Stage.PRODUCED
            yield OPTIONAL[block["type"]](block)
        elif block["type"] == "text":
            if CITATIONS in self._shown:
                yield TextStart(cited=block.get("citations") is not None)
            if block.get("text"):
                yield from self._delta({"type": "text_delta", "text": block["text"]})

    def _text_so_far(self) -> str:
        return "".join(block["text"] for block in self._blocks if block["type"] == "text")

    def _delta(self, delta: Wire) -> Iterator[Event]:
        kind = delta["type"]
        if kind == "text_delta":
            text = self._paragraph + delta["text"]
            self._paragraph = ""
            self._pieces.append(text)
            if not self._structured:
                self._stage = _Stage.PRODUCED
                yield TextDelta(text)
        elif kind == "input_json_delta":
            self._pieces.append(delta["partial_json"])
            name = self._blocks[-1]["name"]
            if self._offered.include(name):
                yield ToolCallDelta(self._calls - 1, delta["partial_json"])
            elif name == OUTPUT_TOOL and self._structured:
                self._stage = _Stage.PRODUCED
                yield TextDelta(delta["partial_json"])
        elif kind in self._shown:
            self._stage = _Stage.PRODUCED
            yield OPTIONAL[kind](delta)

    def _block_stop(self) -> Iterator[Event]:
        block = self._blocks[-1]
        if block["type"] == "tool_use" and not "".join(self._pieces).strip():
            # The API sends nothing, or an empty text, if a call has no arguments.
            yield from self._delta({"type": "input_json_delta", "partial_json": "{}"})
        self._blocks.pop()
        if block["type"] == "text":
            self._blocks.append({"type": "text", "text": "".join(self._pieces)})
        elif block["type"] == "tool_use":
            self._blocks.append({**block, "input": "".join(self._pieces)})

    def answer(self) -> Turn:
        """Return the answer as a turn of the conversation: its text and its calls.

        Calls of the CLI's own tools are left out.

        Raises ValueError if the arguments of a call are not JSON, as in a call that was cut, or
        contain a number that the CLI has not preserved.
        """
        blocks = (
            {**block, "input": _kept(block["input"])} if block["type"] == "tool_use" else block
            for block in self._blocks
            if block["type"] != "tool_use" or self._offered.include(block["name"])
        )
        try:
            return Turn(Role.ASSISTANT, tuple(blocks))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    def _bound_strays(self, uses: set[str]) -> None:
        """Raise if the model repeatedly calls tools that are not offered: the CLI corrects each
        call."""
        if any(map(self._offered.strays, uses)):
            self._strays += 1
            if self._strays > _MOST_STRAYS:
                raise UnavailableError(
                    "The model keeps calling tools that were not offered.", reason="UNFIT_ANSWER"
                )

    @property
    def limit_resets_at(self) -> float | None:
        """When the usage limit resets, in Unix seconds, if it refused the request."""
        if self.usage_limits is None or self.usage_limits.status != "rejected":
            return None
        return self.usage_limits.resets_at


def _kept(arguments: str) -> Any:
    value, changed = parsed_exactly(arguments)
    if changed:
        raise ValueError("a number with too many digits")
    return value
