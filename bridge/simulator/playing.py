"""Scripts by name: steps played in order over the requests of a conversation, for coding agents.

A directive names the script: `[[sim {"script": "fix", "conversation": "a"}]]`, in the system prompt
or the first user message. Each request with it gets the next step, whatever the turn; after the
last step, the unscripted answer. Conversations with different names are independent.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.simulator.script import BadDirective, Directive, checked, steps

# Maximum number of conversations whose position is remembered.
_KEEP = 10_000


@dataclass(frozen=True, slots=True)
class Script:
    """Steps, each a directive; with `tools_only`, a request without tools gets no step.

    Agents also ask for a title or a summary, with the same first message and without tools.
    """

    steps: tuple[Directive, ...]
    tools_only: bool = False


class Scripts:
    """The scripts by name, and the position of each conversation."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self._played: OrderedDict[tuple[str, str], int] = OrderedDict()

    def put(self, name: str, value: object) -> None:
        """Register a script from JSON: {steps, tools_only}. BadDirective. It starts over."""
        kinds = {
            "steps": (None, "a list of directives"),
            "tools_only": (lambda flag: isinstance(flag, bool), "true or false"),
        }
        given = checked(value, kinds, "script")
        self._scripts[name] = Script(steps(given.get("steps")), given.get("tools_only", False))
        for key in [key for key in self._played if key[0] == name]:
            del self._played[key]

    def played(self, name: str) -> Mapping[str, int]:
        """Return how many steps each conversation of a script has taken."""
        return {key[1]: count for key, count in self._played.items() if key[0] == name}

    def next(
        self, directive: Directive, body: Mapping[str, Any]
    ) -> tuple[Directive | None, tuple[str, int]]:
        """Return the step for this request, or None (unscripted), and the key of that step.

        A request that does not stream gets the `whole` of the previous step, if it has one: it is
        the retry of a failed stream.
        """
        name = str(directive.script)
        if name not in self._scripts:
            raise BadDirective(
                f"no script {name!r}; known are {', '.join(self._scripts) or 'none'}"
            )
        script = self._scripts[name]
        key = (name, directive.conversation)
        place = self._played.get(key, 0)
        if script.tools_only and not body.get("tools"):
            return None, (f"{key}", -1)
        last = script.steps[place - 1] if 0 < place <= len(script.steps) else None
        if body.get("stream") is not True and last is not None and last.whole is not None:
            return last, (f"{key}", place - 1)
        self._played[key] = place + 1
        self._played.move_to_end(key)
        while len(self._played) > _KEEP:
            self._played.popitem(last=False)
        step = script.steps[place] if place < len(script.steps) else None
        return step, (f"{key}", place)
