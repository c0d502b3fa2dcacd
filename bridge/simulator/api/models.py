"""Models by name, and what the API documents each to refuse. Pure.

Each set of limits cites its source page; later versions of a family are assumed to keep them.
"""

import re
from dataclasses import dataclass

_NAME = re.compile(
    r"claude-(opus|sonnet|haiku|fable|mythos)-([0-9]+)(?:-([0-9]{1,2}))?(?![0-9])[a-z0-9@\[\]-]*"
)
_NEVER = ("unknown", "nonexistent")

_Since = dict[str, tuple[int, int]]

# https://platform.claude.com/docs/en/about-claude/models/migration-guide (Opus 4.7, Sonnet 5),
# https://platform.claude.com/docs/en/models/haiku-5-5/migration-guide
_NO_SAMPLING: _Since = {
    "opus": (4, 7),
    "sonnet": (5, 0),
    "haiku": (5, 5),
    "fable": (5, 0),
    "mythos": (5, 0),
}
# The same pages: `thinking.type.enabled` with a budget.
_NO_THINKING_BUDGET = _NO_SAMPLING
# https://platform.claude.com/docs/en/models/opus-5-5/migration-guide,
# https://platform.claude.com/docs/en/models/sonnet-5-5/migration-guide
_ALWAYS_THINKING: _Since = {"opus": (5, 5), "sonnet": (5, 5), "fable": (5, 0), "mythos": (5, 0)}
# The same two pages; Haiku 5.5's guide does not list it.
_NO_FORCED_TOOL: _Since = {"opus": (5, 5), "sonnet": (5, 5), "fable": (5, 1), "mythos": (5, 1)}
# https://platform.claude.com/docs/en/about-claude/models/migration-guide
_NO_PREFILL: _Since = {
    "opus": (4, 6),
    "sonnet": (4, 6),
    "haiku": (5, 5),
    "fable": (5, 0),
    "mythos": (5, 0),
}
# https://platform.claude.com/docs/en/models/opus-5/migration-guide: on Opus 5 thinking can be
# disabled up to high effort only. Other families of that time are assumed to do the same.
_EFFORT_NEEDS_THINKING: _Since = {"opus": (5, 0), "sonnet": (5, 0), "haiku": (5, 5)}
# https://platform.claude.com/docs/en/build-with-claude/effort
_XHIGH: _Since = {
    "opus": (4, 7),
    "sonnet": (5, 0),
    "haiku": (5, 5),
    "fable": (5, 0),
    "mythos": (5, 0),
}
# https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages
_SYSTEM_MESSAGES: _Since = {
    "opus": (4, 8),
    "sonnet": (5, 5),
    "haiku": (5, 5),
    "fable": (5, 0),
    "mythos": (5, 0),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model by family and version."""

    family: str
    version: tuple[int, int]

    @property
    def takes_sampling(self) -> bool:
        """Whether temperature, top_p and top_k may differ from the default."""
        return not self._since(_NO_SAMPLING)

    @property
    def takes_thinking_budget(self) -> bool:
        """Whether thinking may be `enabled` with a budget."""
        return not self._since(_NO_THINKING_BUDGET)

    @property
    def takes_thinking_disabled(self) -> bool:
        """Whether thinking can be turned off."""
        return not self._since(_ALWAYS_THINKING)

    @property
    def takes_forced_tool(self) -> bool:
        """Whether tool_choice may be `any` or `tool`."""
        return not self._since(_NO_FORCED_TOOL)

    @property
    def takes_xhigh(self) -> bool:
        """Whether the effort may be `xhigh`."""
        return self._since(_XHIGH)

    @property
    def effort_needs_thinking(self) -> bool:
        """Whether an effort above high is refused while thinking is disabled."""
        return self._since(_EFFORT_NEEDS_THINKING)

    @property
    def takes_prefill(self) -> bool:
        """Whether the conversation may end with an assistant message."""
        return not self._since(_NO_PREFILL)

    @property
    def takes_system_messages(self) -> bool:
        """Whether `messages` may have a message of the `system` role."""
        return self._since(_SYSTEM_MESSAGES)

    def _since(self, since: _Since) -> bool:
        return self.family in since and self.version >= since[self.family]


def find(name: object) -> Model | None:
    """Return the model with this name, or None."""
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None or any(word in match.string for word in _NEVER):
        return None
    return Model(match[1], (int(match[2]), int(match[3] or 0)))
