"""Lua scripts, which Redis executes atomically."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Script:
    """A script that Redis knows by its hash once it has run it.

    Written for Redis 6.2 and later and for Valkey: Lua 5.1 and plain commands.
    """

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        # What the protocol identifies a script by.
        sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)
