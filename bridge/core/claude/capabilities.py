"""What the CLI reports about itself, and the optional features that the probe found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What an initialised CLI reports about itself."""

    version: str
    account: dict[str, Any]
    models: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Facts:
        """Parse the CLI's answer to `initialize`."""
        return cls(
            version=str(answer.get("claude_code_version", "")),
            account=dict(answer.get("account") or {}),
            models=tuple(answer.get("models") or ()),
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features that the bridge can do without; all others are required."""

    rewind: bool = True
    """Whether a conversation can be wiped. If not, a process is closed after each conversation."""
    lacking: tuple[str, ...] = ()
    """Features that were not found, in the probe's words: for the operator."""


ALL = Capabilities()
"""The capabilities of the CLI in the pinned SDK."""
