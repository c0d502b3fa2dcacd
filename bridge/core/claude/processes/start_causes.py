"""Why a process did not start, from its last output. Pure.

Only for a process that has received no caller data: its output is then about the server alone.
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
            "The managed settings of this machine prevent Claude Code from starting: ask its "
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
            "This version of Claude Code does not support one of its command-line options: install "
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
    """For callers; empty if the cause is unknown."""
    for_log: str
    """For the operator: the same, and the process's last output without secrets."""


def start_cause(words: str) -> StartCause:
    """Return the cause, given a process's last output."""
    said = redacted(words)
    sentence = next((known for pattern, known in _CAUSES if pattern.search(words)), "")
    return StartCause(sentence, " ".join(filter(None, (sentence, said and f"Output: {said}"))))


def redacted(words: str) -> str:
    """Return a process's last output in one line, without secrets, truncated."""
    for pattern, instead in _SECRETS:
        words = pattern.sub(instead, words)
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[:MOST_CHARACTERS]}…"
