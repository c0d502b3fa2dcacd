"""The wire format of a Reply: server-sent events, or one JSON message. Pure.

Events and their order: https://platform.claude.com/docs/en/build-with-claude/streaming
The position of fields is as seen in public recordings of the Messages API.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Real signatures are long and opaque; clients only pass them on.
SIGNATURE = "c2ltdWxhdGVkIHNpZ25hdHVyZQ=="
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
GARBAGE = b'event: content_block_delta\ndata: {"type": "content_block_del\n\n'
"""Invalid data for any client."""
_THINKING_CHARS = 24


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool_use block; `input_json` is sent in pieces of `fragment` characters.

    An empty one is one empty delta, as the API sends it for a call without arguments; with
    `no_delta` even that is omitted.
    """

    id: str
    name: str
    input_json: str
    fragment: int = 8
    no_delta: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The content of an answer. A piece of text is one delta, and counts as one token."""

    pieces: tuple[str, ...] = ()
    thinking: str = ""
    blocks: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[ToolUse, ...] = ()
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    stop_details: Mapping[str, Any] | None = None
    endless: bool = False

    @property
    def output_tokens(self) -> int:
        """The tokens of the whole answer."""
        return max(1, tokens(self.thinking) + len(self.pieces) + sum(map(tool_tokens, self.tools)))


@dataclass(frozen=True, slots=True)
class Envelope:
    """The metadata of the answer: its id, the model, the usage, extra fields."""

    id: str
    model: str
    usage: Mapping[str, Any]
    usage_override: Mapping[str, Any] = field(default_factory=dict)
    context_management: bool = False
    omit_thinking: bool = False


def tokens(text: str) -> int:
    """Estimate the tokens of a text: one per four characters, rounded up."""
    return math.ceil(len(text) / 4)


def tool_tokens(tool: ToolUse) -> int:
    """Return the tokens of one call."""
    return tokens(tool.input_json)


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return one server-sent event."""
    payload = json.dumps({"type": name, **data}, separators=(",", ":"))
    return f"event: {name}\ndata: {payload}\n\n".encode()


def error_json(kind: str, message: str, request_id: str) -> dict[str, Any]:
    """The API's error envelope. https://platform.claude.com/docs/en/api/errors"""
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }


def error_event(kind: str, message: str, request_id: str) -> bytes:
    """Return an error inside a stream, which has `details`; an error response has none."""
    envelope = error_json(kind, message, request_id)
    return event("error", {**envelope, "error": {"details": None, **envelope["error"]}})


def final_usage(reply: Reply, envelope: Envelope) -> dict[str, Any]:
    """Return the usage of the finished message, cumulative."""
    return {
        **envelope.usage,
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"thinking_tokens": tokens(reply.thinking)},
        **envelope.usage_override,
    }


# The fields that message_delta repeats; all others are in message_start only.
_DELTA_USAGE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)


def _delta_usage(reply: Reply, envelope: Envelope) -> dict[str, Any]:
    usage = final_usage(reply, envelope)
    details = ("output_tokens_details",) if reply.thinking else ()
    said = {key: usage[key] for key in (*_DELTA_USAGE, *details) if key in usage}
    return said | dict(envelope.usage_override)


def message(reply: Reply, envelope: Envelope) -> dict[str, Any]:
    """Return the whole message, for a request without `stream`."""
    content: list[Mapping[str, Any]] = []
    if reply.thinking:
        thinking = "" if envelope.omit_thinking else reply.thinking
        content.append({"type": "thinking", "thinking": thinking, "signature": SIGNATURE})
    content += reply.blocks
    if reply.pieces:
        content.append({"type": "text", "text": "".join(reply.pieces)})
    content += [_tool_block(tool, _parsed(tool.input_json)) for tool in reply.tools]
    return {
        "model": envelope.model,
        "id": envelope.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": reply.stop_details,
        "usage": final_usage(reply, envelope),
        **_context_management(envelope),
    }


def _tool_block(tool: ToolUse, arguments: object) -> dict[str, Any]:
    # https://platform.claude.com/docs/en/agents-and-tools/tool-use/programmatic-tool-calling
    caller = {"type": "direct"}
    block = {"type": "tool_use", "id": tool.id, "name": tool.name}
    return {**block, "input": arguments, "caller": caller}


def frames(reply: Reply, envelope: Envelope) -> Iterator[tuple[bool, bytes]]:
    """Yield the events of a streamed answer, each with whether it is a content delta."""
    start: dict[str, Any] = {
        "model": envelope.model,
        "id": envelope.id,
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {**envelope.usage, "output_tokens": 1, **envelope.usage_override},
    }
    yield False, event("message_start", {"message": start})
    empty = True
    for index, (block, deltas) in enumerate(_blocks(reply, envelope)):
        yield False, event("content_block_start", {"index": index, "content_block": block})
        if empty:
            yield False, PING
        empty = False
        # The constant part is encoded once: there are thousands of deltas per second.
        head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d' % index
        for kind, name, value in deltas:
            data = json.dumps(value).encode()
            yield True, b'%b,"delta":{"type":"%b","%b":%b}}\n\n' % (head, kind, name, data)
        yield False, event("content_block_stop", {"index": index})
    if empty:
        yield False, PING
    delta = {
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": reply.stop_details,
    }
    usage = _delta_usage(reply, envelope)
    yield (
        False,
        event("message_delta", {"delta": delta, "usage": usage, **_context_management(envelope)}),
    )
    yield False, event("message_stop", {})


_Delta = tuple[bytes, bytes, object]


def _blocks(reply: Reply, envelope: Envelope) -> Iterator[tuple[dict[str, Any], Iterator[_Delta]]]:
    if reply.thinking:
        thinking = "" if envelope.omit_thinking else reply.thinking
        thoughts = ((b"thinking_delta", b"thinking", p) for p in _cut(thinking, _THINKING_CHARS))
        signature = (b"signature_delta", b"signature", SIGNATURE)
        yield (
            {"type": "thinking", "thinking": "", "signature": ""},
            itertools.chain(thoughts, (signature,)),
        )
    for given in reply.blocks:
        yield _given_block(given)
    if reply.pieces or reply.endless:
        pieces = (f"w{n} " for n in itertools.count()) if reply.endless else iter(reply.pieces)
        yield {"type": "text", "text": ""}, ((b"text_delta", b"text", piece) for piece in pieces)
    for tool in reply.tools:
        # The API starts every call with an empty delta.
        fragments = () if tool.no_delta else ("", *_cut(tool.input_json, tool.fragment))
        yield (
            _tool_block(tool, {}),
            ((b"input_json_delta", b"partial_json", piece) for piece in fragments),
        )


def _given_block(block: Mapping[str, Any]) -> tuple[dict[str, Any], Iterator[_Delta]]:
    """Calls of server tools and texts are sent in deltas; results and redacted thinking at once.

    Citations follow their text: https://platform.claude.com/docs/en/build-with-claude/citations
    """
    if block.get("type") == "text":
        deltas: list[_Delta] = [(b"text_delta", b"text", str(block.get("text", "")))]
        cited = block.get("citations")
        deltas += [(b"citations_delta", b"citation", citation) for citation in cited or ()]
        return {**block, "text": "", **({"citations": []} if cited else {})}, iter(deltas)
    if "input" in block:
        arguments = json.dumps(block["input"])
        pieces: list[_Delta] = [
            (b"input_json_delta", b"partial_json", piece) for piece in ("", arguments)
        ]
        return {**block, "input": {}}, iter(pieces)
    return dict(block), iter(())


def _cut(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def _parsed(input_json: str) -> object:
    try:
        return json.loads(input_json)
    except ValueError:
        return {}  # cut off, malformed, or empty


def _context_management(envelope: Envelope) -> dict[str, Any]:
    return {"context_management": {"applied_edits": []}} if envelope.context_management else {}
