"""Whether a caller continues its conversations, so that holding them open pays. Pure.

A conversation that is held open keeps its process from the next request, which then gets a colder
one. That pays if its next message arrives. Many callers never send one: a script that asks
independent questions, an editor that completes a line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

UNFOLLOWED = 3
"""After this many new conversations in a row that were not continued, none is held open.

The next one that is continued is replayed once, and later ones are held open again."""

_KEPT_KINDS = 256
_KEPT_CONVERSATIONS = 64


class ParkingPolicy:
    """Remembers the new conversations of a caller and a profile (a kind) until one continues."""

    def __init__(self) -> None:
        self._left: OrderedDict[Hashable, OrderedDict[str, None]] = OrderedDict()

    def continues(self, kind: Hashable, conversation: str | None) -> bool:
        """Record the conversation that a request continues; return whether it is known here."""
        if conversation is None or conversation not in self._left.get(kind, ()):
            return False
        # A caller that continued one conversation is likely to continue others as well.
        del self._left[kind]
        return True

    def worth_holding(self, kind: Hashable, conversation: str) -> bool:
        """Record the end of a new conversation's first answer; return whether a second is
        likely."""
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
