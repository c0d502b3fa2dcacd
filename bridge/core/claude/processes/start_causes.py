"""Why a process did not start, from what it wrote before it ended. Pure.

Only for a process that was told nothing of a caller's: what it writes is of the server alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MOST_CHARACTERS: Final = 300

_CAUSES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(words, re.IGNORECASE), sentence)
    for words, sentence in (
        (
            r"configuration file .* is corrupted|configuration error in",
            "Claude Code's configuration file (.claude.json) is not valid JSON: repair it or move "
            "it aside.",
        ),
        (
            r"managed settings|policy settings|managed-settings",
            "The managed settings of this machine keep Claude Code from starting: ask its "
            "administrator.",
        ),
        (
            r"settings file|invalid settings|error in settings",
            "Claude Code cannot read a settings file: repair it or move it aside.",
        ),
        (
            r"\bENOSPC\b|no space left",
            "The disk is full: Claude Code cannot write its files.",
        ),
        (
            r"\b(EROFS|EACCES|EPERM|ENOENT)\b.*\b(mkdir|mkdtemp|open|write|unlink)\b"
            r"|read-only file system",
            "Claude Code cannot write to its folder or to the temporary folder: check TMPDIR, "
            "CLAUDE_CONFIG_DIR and their permissions.",
        ),
        (
            r"unknown option|argument missing|invalid option",
            "This version of Claude Code does not know an option that it is started with: install "
            "the version of claude-agent-sdk that this server pins.",
        ),
        (
            r"cannot execute|exec format|GLIBC|error while loading shared libraries",
            "The `claude` program does not run on this machine.",
        ),
    )
)

_SECRETS: Final = (
    (re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]"), ""),
    (re.compile(r"sk-ant-[\w-]+|(?i:bearer)\s+\S+|\b[\w-]{40,}\b"), "[redacted]"),
    (re.compile(r"//[^\s/@]+@"), "//[redacted]@"),
)


@dataclass(frozen=True, slots=True)
class StartCause:
    """Why it did not start."""

    sentence: str
    """For anybody; empty where the cause is not known."""
    for_log: str
    """For the operator: the same, and the process's last words without secrets."""


def start_cause(words: str) -> StartCause:
    """The cause that a process's last words give."""
    said = redacted(words)
    sentence = next((known for pattern, known in _CAUSES if pattern.search(words)), "")
    return StartCause(sentence, " ".join(filter(None, (sentence, said and f"It said: {said}"))))


def redacted(words: str) -> str:
    """A process's words in one line, without secrets, cut off."""
    for pattern, instead in _SECRETS:
        words = pattern.sub(instead, words)
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}…"
