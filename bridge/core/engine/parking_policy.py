"""Whether a caller goes on with its conversations, so that they are worth holding open. Pure.

A conversation that is held open keeps its process from the next request, which is then answered
by one that is less hot. That pays where its next message comes. Many callers never send one: a
script that asks one thing after the other, an editor that completes a line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

UNFOLLOWED = 3
"""So many new conversations in a row that nobody went on with, and further ones are not held open.

The next one that somebody does go on with is replayed, once, and those after it are held open
again."""

_KEPT_KINDS = 256
_KEPT_CONVERSATIONS = 64


class ParkingPolicy:
    """Remembers by kind, which is a caller and a profile, the new conversations it left."""

    def __init__(self) -> None:
        self._left: OrderedDict[Hashable, OrderedDict[str, None]] = OrderedDict()

    def goes_on(self, kind: Hashable, conversation: str | None) -> bool:
        """Take note of what a request continues; says whether it is known here."""
        if conversation is None or conversation not in self._left.get(kind, ()):
            return False
        # Whoever went on once is likely to, in the others as well.
        del self._left[kind]
        return True

    def worth_holding(self, kind: Hashable, conversation: str) -> bool:
        """Take note of the end of a new conversation's first answer; says what is likely."""
        left = self._left.setdefault(kind, OrderedDict())
        self._left.move_to_end(kind)
        likely = len(left) < UNFOLLOWED
        left[conversation] = None
        left.move_to_end(conversation)
        if len(left) > _KEPT_CONVERSATIONS:
            left.popitem(last=False)
        if len(self._left) > _KEPT_KINDS:
            self._left.popitem(last=False)
        return likely
