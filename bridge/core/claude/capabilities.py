"""What the CLI at hand can do, as the probe found it."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.core.claude.turn_settings import SETTINGS


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the bridge can make do without; everything else it relies on must be there."""

    rewind: bool = True
    """Whether a conversation can be wiped. Without it a process is closed after each."""
    late_settings: frozenset[str] = SETTINGS
    """The settings that can be changed on a running process. With another one, a process is
    started for the request."""
    lacking: tuple[str, ...] = ()
    """What was looked for and not found, in the probe's words: for the operator."""


ALL = Capabilities()
"""What the CLI that the pinned SDK brings can do."""
