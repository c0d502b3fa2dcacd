"""The mark around a system message in the middle of a conversation. Pure.

Claude Code accepts system text before a conversation only, so a later system message is text of a
user's turn, between tags. Only these tags have their name: it is changed in every other text of
the user's, in tool results and in files, so that such a text is never taken for a system message.
The same text always gives the same mark.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

NAME: Final = "operator-system-message"
"""The name of the tags. An operator, for Claude, is who writes the system prompt."""

QUOTE: Final = "quoted-"
"""What is put before the name where it is not the tags'. So the change can be undone."""

# What is not shown, and what looks like a character of a tag.
_HIDDEN: Final = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff"
)
_GAP: Final = rf"[\s{_HIDDEN}]*+"
_BRACKETS: Final = r"<\u2039\u3008\ufe64\uff1c"
_SLASHES: Final = r"/\\\u2044\u2215\uff0f"
_HYPHENS: Final = r"\s_\u2010-\u2015\u2212\ufe58\ufe63\uff0d-"
_TO_FULL_WIDTH: Final = 0xFEE0
_FIRST_WORD: Final = NAME.partition("-")[0]


def _alike(name: str) -> str:
    """Return a pattern of what reads like a name."""
    characters = (
        f"[{_HYPHENS}]" if each == "-" else f"[{each}{chr(ord(each) + _TO_FULL_WIDTH)}]"
        for each in name
    )
    return f"[{_HIDDEN}]*+".join(characters)


def _letters(name: str) -> str:
    letters = sorted({*name} - {"-"})
    return "".join(f"{each}{chr(ord(each) + _TO_FULL_WIDTH)}" for each in letters)


_TAG: Final = re.compile(
    rf"(?P<start>[{_BRACKETS}]{_GAP}(?:[{_SLASHES}]{_GAP})?)"
    rf"(?P<quotes>(?:{_alike(QUOTE)}[{_HIDDEN}]*+)*)(?P<name>{_alike(NAME)})",
    re.IGNORECASE,
)


_BRACKET: Final = re.compile(f"[{_BRACKETS}]")
_CUT: Final = re.compile(
    rf"[{_BRACKETS}]|[^{_HIDDEN}{_SLASHES}{_letters(QUOTE + NAME)}{_HYPHENS}]", re.IGNORECASE
)
"""Where a text can be cut without cutting a tag: before what can only start one, or not be in it.
"""
_PIECE: Final = 10_000
_LONGEST: Final = 100_000
"""Nothing with so many characters reads like a tag."""


def _tags(text: str) -> Iterator[re.Match[str]]:
    """Yield what reads like a tag with the name.

    It is searched for in pieces: a search holds the interpreter, and one through a text of many
    megabytes would hold up every other answer for seconds.
    """
    start = 0
    while start < len(text):
        end = _end_of_piece(text, start)
        if _may_contain_tag(text[start:end]):
            yield from _TAG.finditer(text, start, end)
        start = end


def _end_of_piece(text: str, start: int) -> int:
    most = start + _LONGEST
    for at in range(start + _PIECE, most, _PIECE):
        if cut := _CUT.search(text, at, min(at + _PIECE, most)):
            return cut.start()
    return most


def _may_contain_tag(piece: str) -> bool:
    if piece.isascii():
        return "<" in piece and _FIRST_WORD in piece.lower()
    return _BRACKET.search(piece) is not None


def marked(text: str) -> str:
    """Return a system message as the model gets it."""
    return f"<{NAME}>\n{quoted(text)}\n</{NAME}>"


def quoted(text: str) -> str:
    """Return a text in which no tag has the mark's name."""
    pieces: list[str] = []
    start = 0
    for tag in _tags(text):
        at = tag.start("quotes")
        pieces += (text[start:at], QUOTE)
        start = at
    return "".join((*pieces, text[start:])) if pieces else text


def quoted_across(texts: Sequence[str]) -> list[str]:
    """Return the texts of neighbours, in which no tag that spans several has the mark's name."""
    ends = list(accumulate(map(len, texts)))
    found = [*texts]
    # From the end, so that earlier positions hold.
    for tag in reversed(list(_tags("".join(texts)))):
        if tag.end() > ends[bisect_right(ends, tag.start())]:
            holder = bisect_right(ends, tag.start("quotes"))
            at = tag.start("quotes") - (ends[holder] - len(texts[holder]))
            found[holder] = f"{found[holder][:at]}{QUOTE}{found[holder][at:]}"
    return found


def has_quoted(text: str) -> bool:
    """Whether a tag in it was given another name."""
    return QUOTE in text and any(tag["quotes"] for tag in _tags(text))
