"""The directive: an instruction to the simulated model inside the prompt.

A directive is the text `[[sim {JSON}]]` in a text block of a user message, in a tool result or, if
the messages have none, in the system prompt. The newest one applies, also in later turns: `[[sim
{}]]` restores the unscripted answer.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.simulator.api import ERROR_TYPES, FAILURES, Failure

OPENING = "[[sim "
_DECODER = json.JSONDecoder()
_HEADER = re.compile(r"[A-Za-z0-9-]+")

# Positions at which an answer can end early, as counts of deltas; the last two are after all
# deltas.
CONTENT = 1 << 30
MESSAGE_DELTA = 1 << 31
PLACES = {"headers": -1, "message_start": 0, "content": CONTENT, "message_delta": MESSAGE_DELTA}


class BadDirective(ValueError):
    """An invalid directive; the message is the reason."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in the answer; `fragment` is characters per input_json_delta.

    `raw` is the text of the arguments, possibly cut off or malformed, instead of `input`;
    `no_delta` omits every input_json_delta.
    """

    name: str
    input: object = field(default_factory=dict)
    fragment: int = 8
    id: str | None = None
    raw: str | None = None
    no_delta: bool = False


# wide: one field per key of a script.
@dataclass(frozen=True, slots=True)
class Directive:
    """The answer and its delivery; `KEYS` describes each field."""

    text: str | None = None
    tokens: int | None = None
    echo: bool = False
    endless: bool = False
    json: object = None
    has_json: bool = False
    thinking: str = ""
    tools: tuple[ToolCall, ...] = ()
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Mapping[str, Any] | None = None
    blocks: tuple[Mapping[str, Any], ...] = ()
    error: Failure | None = None
    error_event: Failure = FAILURES["overloaded"]
    delay_ms: float = 0.0
    first_delay_ms: float = 0.0
    error_after: int | None = None
    cut_after: int | None = None
    end_after: int | None = None
    garbage_after: int | None = None
    hang_after: int | None = None
    hang: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    ping_every: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    whole: "Directive | None" = None
    script: str | None = None
    conversation: str = ""
    turns: tuple["Directive", ...] = ()

    @property
    def has_content(self) -> bool:
        """Whether it defines the answer, not only its delivery."""
        return bool(
            self.text is not None
            or self.tokens is not None
            or self.echo
            or self.endless
            or self.has_json
            or self.tools
            or self.blocks
        )

    @property
    def stops_after(self) -> int | None:
        """The number of deltas after which the answer ends early, if it does (see `PLACES`)."""
        stops = (
            self.error_after,
            self.cut_after,
            self.end_after,
            self.garbage_after,
            self.hang_after,
        )
        return min((stop for stop in stops if stop is not None), default=None)


@dataclass(frozen=True, slots=True)
class Found:
    """A directive in a request, its raw JSON, and the number of assistant messages after it."""

    directive: Directive
    raw: str
    turn: int

    @property
    def in_force(self) -> Directive | None:
        """The directive for this turn; None is the unscripted answer.

        A directive that calls tools does so once: otherwise a client that answers calls would never
        end.
        """
        if self.directive.turns:
            turns = self.directive.turns
            return turns[self.turn] if self.turn < len(turns) else None
        return None if self.directive.tools and self.turn else self.directive

    @property
    def key(self) -> tuple[str, int]:
        """What `times` counts by: the directive as written, and the number of its turn."""
        return self.raw, self.turn if self.directive.turns else 0


def find(body: Mapping[str, Any]) -> Found | None:
    """Return the newest directive of a request. BadDirective describes its fault."""
    turn = 0
    for message in reversed(body.get("messages") or []):
        if message.get("role") == "assistant":
            turn += 1
        elif message.get("role") == "user":
            for text in reversed(list(_texts(message.get("content")))):
                if (raw := _last_directive(text)) is not None:
                    return Found(parse(raw), raw, turn)
    for text in reversed(list(_texts(body.get("system")))):
        if (raw := _last_directive(text)) is not None:
            return Found(parse(raw), raw, turn)
    return None


def _texts(content: object) -> Iterator[str]:
    """Yield the texts of a content field, including those inside tool results."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for block in content:
            if not isinstance(block, dict):
                continue
            if block.get("type") == "text" and isinstance(block.get("text"), str):
                yield block["text"]
            elif block.get("type") == "tool_result":
                yield from _texts(block.get("content"))


def _last_directive(text: str) -> str | None:
    start = text.rfind(OPENING)
    if start < 0:
        return None
    begin = start + len(OPENING)
    begin += len(text[begin:]) - len(text[begin:].lstrip())
    try:
        _, end = _DECODER.raw_decode(text, begin)
    except ValueError as error:
        raise BadDirective(f"not JSON: {error}") from None
    if not text[end:].lstrip().startswith("]]"):
        raise BadDirective("no ]] after its JSON")
    return text[begin:end]


def steps(values: object) -> tuple[Directive, ...]:
    """Parse the steps of a script, each a directive. BadDirective describes the fault."""
    if not isinstance(values, list):
        raise BadDirective("steps: not a list")
    return tuple(_directive(value, nested=True) for value in values)


def parse(raw: str) -> Directive:
    """Parse a directive from JSON text. BadDirective describes the fault."""
    return _directive(json.loads(raw))


def _number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1_000_000
    )


def _count(value: object) -> bool:
    return _number(value) and isinstance(value, int)


def _positive(value: object) -> bool:
    return _count(value) and value != 0


def _text(value: object) -> bool:
    return isinstance(value, str)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _object(value: object) -> bool:
    return isinstance(value, dict)


def _place(value: object) -> bool:
    return value in PLACES if isinstance(value, str) else _count(value)


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _strings(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(item, str) and _HEADER.fullmatch(name) and item.isascii() and item.isprintable()
        for name, item in value.items()
    )


_FAILURE = "{kind, status, type, message, headers, times}"
_PLACE = f"a count of deltas or one of {', '.join(PLACES)}"
KEYS = {
    "text": (_text, "a string: the answer"),
    "tokens": (_count, "a count: answer with this many text deltas, w0 w1 w2 …"),
    "echo": (_flag, "true: answer with a summary of the request, as JSON"),
    "endless": (_flag, "true: text deltas until the client goes away"),
    "json": (None, "a value: answer with it, through the StructuredOutput tool if offered"),
    "thinking": (_text, "a string: sent first as thinking, if the request has thinking on"),
    "tools": (_objects, "a list of {name, input, fragment, id, raw, no_delta}"),
    "blocks": (_objects, "a list of content blocks, streamed as the API does, before the text"),
    "stop_reason": (_text, "a string"),
    "stop_sequence": (_text, "a string"),
    "stop_details": (_object, "the stop_details of a refusal"),
    "error": (None, f"one of {', '.join(FAILURES)}, or {_FAILURE}: fail with it"),
    "error_event": (None, "the same: sent by error_after"),
    "delay_ms": (_number, "milliseconds between deltas"),
    "first_delay_ms": (_number, "milliseconds before message_start"),
    "error_after": (_place, f"{_PLACE}, then an error event inside the stream"),
    "cut_after": (_place, f"{_PLACE}, then the connection is aborted"),
    "end_after": (_place, f"{_PLACE}, then the body just ends"),
    "garbage_after": (_place, f"{_PLACE}, then an invalid event, and the end"),
    "hang_after": (_place, f"{_PLACE}, then silence until the client goes away"),
    "hang": (_flag, "true: silence from the start"),
    "headers": (_strings, "response headers, strings by name"),
    "ping_every": (_count, "a count: a ping event after this many deltas, repeatedly"),
    "usage": (_object, "merged into the usage"),
    "note": (_text, "a string without effect, to distinguish directives"),
    "whole": (_object, "a directive: the answer to a request that does not stream"),
    "script": (_text, "a name: play this script's next step, whatever the turn"),
    "conversation": (_text, "a string: identifies a run of the script"),
    "turns": (_objects, "a list of directives, one for each turn"),
}
_CONTENTS = ("text", "tokens", "echo", "endless", "json")


def _directive(value: object, *, nested: bool = False) -> Directive:
    fields_given = checked(value, KEYS, "directive")
    if len([key for key in _CONTENTS if key in fields_given]) > 1:
        raise BadDirective(f"only one of {', '.join(_CONTENTS)} can be the answer")
    if "turns" in fields_given:
        if nested or fields_given.keys() - {"turns", "note"}:
            raise BadDirective("turns must be the only key, and not inside turns, steps or whole")
        return Directive(
            turns=tuple(_directive(turn, nested=True) for turn in fields_given["turns"]),
        )
    if "script" in fields_given and (
        nested or fields_given.keys() - {"script", "conversation", "note"}
    ):
        raise BadDirective("script allows only conversation beside it, and not inside others")
    if "tools" in fields_given:
        fields_given["tools"] = tuple(_tool_call(tool) for tool in fields_given["tools"])
    if "blocks" in fields_given:
        fields_given["blocks"] = tuple(fields_given["blocks"])
    for key in ("error", "error_event"):
        if key in fields_given:
            fields_given[key] = failure(fields_given[key], key)
    for key in [key for key in fields_given if key.endswith("_after")]:
        fields_given[key] = PLACES.get(fields_given[key], fields_given[key])
    if "whole" in fields_given:
        fields_given["whole"] = _directive(fields_given["whole"], nested=True)
    return Directive(**fields_given, has_json="json" in fields_given)


def _tool_call(value: object) -> ToolCall:
    kinds = {
        "name": (_text, "a string"),
        "input": (_object, "an object"),
        "fragment": (_positive, "a count of at least 1"),
        "id": (_text, "a string"),
        "raw": (_text, "a string: the text of the arguments, as it is"),
        "no_delta": (_flag, "true: no input_json_delta at all"),
    }
    given = checked(value, kinds, "tools")
    if "name" not in given:
        raise BadDirective("tools: name is missing")
    return ToolCall(**given)


def failure(value: object, where: str = "error") -> Failure:
    """Parse a failure from JSON: a name, or an object, optionally based on a name in `kind`."""
    kinds = {
        "kind": (lambda kind: kind in FAILURES, f"one of {', '.join(FAILURES)}"),
        "status": (lambda status: status in ERROR_TYPES, f"one of {sorted(ERROR_TYPES)}"),
        "type": (_text, "a string"),
        "message": (_text, "a string"),
        "headers": (_strings, "strings by name"),
        "times": (_count, "a count"),
    }
    given = checked({"kind": value} if isinstance(value, str) else value, kinds, where)
    if "kind" in given:
        known = FAILURES[given.pop("kind")]
        headers = {**known.headers, **given.pop("headers", {})}
        return replace(known, headers=headers, **given)
    if "status" not in given:
        raise BadDirective(f"{where}: status is missing")
    return Failure(**{"type": ERROR_TYPES[given["status"]], "message": "a scripted error"} | given)


def checked(value: object, kinds: Mapping[str, tuple[Any, str]], where: str) -> dict[str, Any]:
    """Check that `value` is a JSON object with these keys. BadDirective describes the fault."""
    if not isinstance(value, dict):
        raise BadDirective(f"{where}: not an object")
    for key, item in value.items():
        if key not in kinds:
            raise BadDirective(f"{where}: unknown key {key!r}; known are {', '.join(kinds)}")
        test, meaning = kinds[key]
        if test is not None and not test(item):
            raise BadDirective(f"{where}: {key} must be {meaning}")
    return dict(value)
