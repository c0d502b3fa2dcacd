"""What the CLI at hand reports of itself, and what it can do, as the probe found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What an initialised CLI reports of itself."""

    version: str
    account: dict[str, Any]
    models: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Facts:
        """Read the CLI's answer to `initialize`."""
        return cls(
            version=str(answer.get("claude_code_version", "")),
            account=dict(answer.get("account") or {}),
            models=tuple(answer.get("models") or ()),
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the bridge can make do without; everything else it relies on must be there."""

    rewind: bool = True
    """Whether a conversation can be wiped. Without it a process is closed after each."""
    lacking: tuple[str, ...] = ()
    """What was looked for and not found, in the probe's words: for the operator."""


ALL = Capabilities()
"""What the CLI that the pinned SDK brings can do."""
