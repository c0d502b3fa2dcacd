"""The mark around a system message in the middle of a conversation. Pure.

Claude Code accepts system text before a conversation only, so a later system message is text of a
user's turn, between tags. Only these tags have their name: it is changed in every other text of
the user's, in tool results and in files, so that such a text is never taken for a system message.
The same text always gives the same mark.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
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


def _alike(name: str) -> str:
    """Return a pattern of what reads like a name."""
    characters = (
        f"[{_HYPHENS}]" if each == "-" else f"[{each}{chr(ord(each) + _TO_FULL_WIDTH)}]"
        for each in name
    )
    return f"[{_HIDDEN}]*+".join(characters)


_TAG: Final = re.compile(
    rf"(?P<start>[{_BRACKETS}]{_GAP}(?:[{_SLASHES}]{_GAP})?)"
    rf"(?P<quotes>(?:{_alike(QUOTE)}[{_HIDDEN}]*+)*)(?P<name>{_alike(NAME)})",
    re.IGNORECASE,
)


def marked(text: str) -> str:
    """Return a system message as the model gets it."""
    return f"<{NAME}>\n{quoted(text)}\n</{NAME}>"


def quoted(text: str) -> str:
    """Return a text in which no tag has the mark's name."""
    return _TAG.sub(rf"\g<start>{QUOTE}\g<quotes>\g<name>", text)


def quoted_across(texts: Sequence[str]) -> list[str]:
    """Return the texts of neighbours, in which no tag that spans several has the mark's name."""
    ends = list(accumulate(map(len, texts)))
    found = [*texts]
    # From the end, so that earlier positions hold.
    for tag in reversed(list(_TAG.finditer("".join(texts)))):
        if tag.end() > ends[bisect_right(ends, tag.start())]:
            holder = bisect_right(ends, tag.start("quotes"))
            at = tag.start("quotes") - (ends[holder] - len(texts[holder]))
            found[holder] = f"{found[holder][:at]}{QUOTE}{found[holder][at:]}"
    return found


def has_quoted(text: str) -> bool:
    """Whether a tag in it was given another name."""
    return QUOTE in text and any(tag["quotes"] for tag in _TAG.finditer(text))
