"""Tools that take one free text: the model calls them as functions with one string. Pure.

The text is taken out of the JSON that the model writes, while it arrives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final

from bridge.core.contract import Event, Finished, TextDelta, Tool, ToolCallDelta, ToolCallStart
from bridge.core.validation import FREE_TEXT

_PARAMETERS: Final = {
    "type": "object",
    "properties": {FREE_TEXT: {"type": "string"}},
    "required": [FREE_TEXT],
    "additionalProperties": False,
}


def as_function(tool: Tool) -> Tool:
    """Return a tool as the model gets it."""
    return replace(tool, parameters=_PARAMETERS, free_text=False) if tool.free_text else tool


class FreeTextFilter:
    """Replaces the arguments of calls of these tools by their text."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._index = 0
        self._decoder: JsonTextDecoder | None = None
        """Of the call whose arguments arrive."""

    def feed(self, event: Event) -> Iterator[Event]:
        if isinstance(event, ToolCallDelta) and self._decoder is not None:
            yield from self._text(self._decoder.feed(event.arguments))
            return
        if isinstance(event, ToolCallStart | TextDelta | Finished) and self._decoder is not None:
            yield from self._text(self._decoder.finish())
            self._decoder = None
        if isinstance(event, ToolCallStart) and event.name in self._names:
            self._index, self._decoder = event.index, JsonTextDecoder()
            event = replace(event, free_text=True)
        yield event

    def _text(self, text: str) -> Iterator[Event]:
        if text:
            yield ToolCallDelta(self._index, text)


_OPENING: Final = re.compile(rf'\s*\{{\s*"{FREE_TEXT}"\s*:\s*"')
_PLAIN: Final = re.compile(r'[^"\\]+')
_UNICODE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class JsonTextDecoder:
    """Decodes the one text of an object like `{"input": "..."}` that arrives in pieces."""

    def __init__(self) -> None:
        self._before: str | None = ""
        """All that arrived, until the text begins."""
        self._held = ""
        """The start of an escape."""
        self._ended = False

    def feed(self, piece: str) -> str:
        """Return the part of the text that this piece completes."""
        if self._before is not None:
            self._before += piece
            opening = _OPENING.match(self._before)
            if opening is None:
                return ""
            piece, self._before = self._before[opening.end() :], None
        return "" if self._ended else self._decode(self._held + piece)

    def finish(self) -> str:
        """Return what is left once all has arrived; all of it if it is not such an object."""
        if self._before is None:
            return ""
        try:
            text = json.loads(self._before)[FREE_TEXT]
        except (ValueError, TypeError, LookupError, RecursionError):
            text = None
        return text if isinstance(text, str) else self._before.strip()

    def _decode(self, text: str) -> str:
        decoded: list[str] = []
        at, self._held = 0, ""
        while at < len(text):
            if plain := _PLAIN.match(text, at):
                decoded.append(plain[0])
                at = plain.end()
            elif text[at] == '"':
                self._ended = True
                break
            else:
                found, after = _escape(text, at)
                if after == at:
                    self._held = text[at:]
                    break
                decoded.append(found)
                at = after
        return "".join(decoded)


def _escape(text: str, at: int) -> tuple[str, int]:
    """Decode the escape at a place; return it and the place after it, the same if it is cut."""
    kind = text[at + 1 : at + 2]
    if not kind:
        return "", at
    if kind != "u":
        return _ESCAPES.get(kind, kind), at + 2
    code = _UNICODE.match(text, at)
    if code is None:
        # Not JSON, so it is passed on as it is.
        return ("", at) if len(text) < at + 6 else (text[at : at + 2], at + 2)
    first, after = int(code[1], 16), code.end()
    if not 0xD800 <= first < 0xDC00:
        return chr(first), after
    rest = text[after : after + 6]
    if len(rest) < 6 and "\\u".startswith(rest[:2]):
        return "", at
    low = _UNICODE.match(text, after)
    if low is not None and 0xDC00 <= (second := int(low[1], 16)) < 0xE000:
        return chr(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)), low.end()
    return chr(first), after
