"""Claude Code's own tools, as far as the operator allows callers to use them. Pure.

Off by default. The listed tools run in one named folder, and anything that no rule allows is
denied: there is no user to ask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FILES_READ = ("Read", "Grep", "Glob")
_FILES_WRITTEN = ("Edit", "Write", "NotebookEdit")
_WEB = ("WebFetch", "WebSearch")
_SHELL = "Bash"

TOOLS = frozenset((*_FILES_READ, *_FILES_WRITTEN, *_WEB, _SHELL))
"""The tools that can be listed. Tools that start agents, ask the user or outlive the answer
cannot."""

_WITH_SPECIFIER = frozenset((_SHELL, "WebFetch"))
_RULE = re.compile(r"([A-Za-z]+)(?:\(([^()\n]+)\))?")
_SEPARATOR = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class BuiltinTools:
    """The tools that are on, their permission rules, and their folder."""

    folder: Path
    rules: tuple[str, ...]
    """Permission rules in Claude Code's format: `Read`, `Bash(git log:*)`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tools offered to the model, each once."""
        return tuple(dict.fromkeys(_name(rule) for rule in self.rules))

    def described(self) -> list[str]:
        """Describe the effect of each rule, for the operator: one line per rule."""
        return [f"{rule}: {_meaning(rule)}" for rule in self.rules]


def parsed_rules(text: str) -> tuple[str, ...]:
    """Parse a list of rules such as `Read,Grep,Bash(git log:*)`.

    Raises ValueError for an invalid rule, an unknown tool, or a rule that would have no effect.
    """
    rules = tuple(part.strip() for part in _SEPARATOR.split(text) if part.strip())
    for rule in rules:
        match = _RULE.fullmatch(rule)
        if match is None:
            raise ValueError(f"{rule!r} is not of the form TOOL or TOOL(RULE)")
        name, specifier = match.groups()
        if name not in TOOLS:
            raise ValueError(f"{name!r} is not one of {', '.join(sorted(TOOLS))}")
        if specifier is not None and name not in _WITH_SPECIFIER:
            # Claude Code lets its file tools read the whole folder, whatever the rule.
            raise ValueError(f"{name} takes no rule: write {name!r}, which applies to the folder")
    return rules


def check_folder(folder: Path, *, home: Path, private: Sequence[Path]) -> Path:
    """Return the folder, resolved. Raises ValueError if callers must not have access to it.

    `private` are folders with secrets: the folder must neither be in one nor contain one.
    """
    try:
        resolved = folder.expanduser().resolve(strict=True)
    except (OSError, RuntimeError):
        raise ValueError(f"{str(folder)!r} does not exist") from None
    if not resolved.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder")
    if home.resolve().is_relative_to(resolved):
        raise ValueError(f"{str(folder)!r} is or contains your home folder: use a folder inside it")
    for path in (each.expanduser().resolve() for each in private):
        if path.is_relative_to(resolved) or resolved.is_relative_to(path):
            raise ValueError(
                f"{str(folder)!r} shares files with {str(path)!r}, which contains secrets or "
                "controls access"
            )
    return resolved


def _name(rule: str) -> str:
    return rule.partition("(")[0]


def _meaning(rule: str) -> str:
    name, _, specifier = rule.rstrip(")").partition("(")
    if name in _FILES_READ:
        return "reads files in the folder"
    if name in _FILES_WRITTEN:
        return "writes files in the folder"
    if name == "WebSearch":
        return "searches the web"
    if name == "WebFetch":
        return f"fetches pages ({specifier})" if specifier else "fetches any page"
    if specifier:
        return "runs these commands, and commands that only read the folder, AS YOU"
    return "runs ANY command, AS YOU"
