"""The payers that the operator has named, their file, and their secrets.

The file names folders and files; it contains no secret.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bridge.core.contract import PayerKind
from bridge.core.system import locked, private_folder, replace_file

PAYERS_FILE: Final = "payers.json"
"""Its name in the state folder."""
PAYERS_FOLDER: Final = "payers"
"""Where the payers that are no login folder keep what Claude Code writes, in the state folder."""
MAX_PAYERS: Final = 32

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VISIBLE: Final = re.compile(r"[!-~]+")
_OTHERS: Final = 0o077
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MAX_BYTES: Final = 1024 * 1024
_OAUTH_PREFIX: Final = "sk-ant-oat"
_API_KEY_PREFIX: Final = "sk-ant-api"


class PayerError(Exception):
    """A payer or the file of payers cannot be used. The text is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class Payer:
    """An account that answers are charged to."""

    name: str
    kind: PayerKind
    path: Path | None = None
    """The folder of a login (None: the one that `claude` uses anyway), or the file of a secret."""
    overflow: bool = False
    """Whether it may answer when a login before it in a list cannot, for every such list."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                "a payer's name has 1 to 64 letters, digits, dots, dashes and underscores, and "
                "starts with a letter or a digit"
            )
        if self.overflow and self.kind.subscription:
            raise ValueError(
                "--overflow is for a billed payer: requests do not overflow to a subscription login"
            )

    def secret(self) -> str:
        """Read its token or API key, empty for other kinds; raises PayerError."""
        if self.kind not in (PayerKind.TOKEN, PayerKind.API_KEY) or self.path is None:
            return ""
        try:
            mode = self.path.stat().st_mode
            secret = self.path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a text"
            raise PayerError(f"Payer {self.name}: {self.path} cannot be read: {reason}.") from None
        if mode & _OTHERS:
            raise PayerError(
                f"Payer {self.name}: other users can read or write {self.path}. Run: "
                f"chmod 600 {self.path}"
            )
        if problem := self.problem(secret):
            raise PayerError(f"Payer {self.name}: {self.path} {problem}")
        return secret

    def problem(self, secret: str) -> str:
        """Return why a file cannot have this as the payer's secret, and the remedy; empty if it
        can.
        """
        if not _VISIBLE.fullmatch(secret):
            return "must contain one secret, in visible ASCII characters, and nothing else."
        if self.kind is PayerKind.API_KEY and secret.startswith(_OAUTH_PREFIX):
            return (
                "contains the token of a login, not an API key. Add it with --token-file: it "
                "serves its owner only."
            )
        if self.kind is PayerKind.TOKEN and secret.startswith(_API_KEY_PREFIX):
            return "contains an API key, not a token. Add it with --api-key-file."
        return ""

    def config_folder(self, state: Path) -> Path | None:
        """Return its CLAUDE_CONFIG_DIR; None is the one that `claude` uses anyway."""
        if self.kind is PayerKind.LOGIN:
            return self.path
        return state / PAYERS_FOLDER / self.name


class PayerFile:
    """The file of payers, in the operator's order. Changes are atomic, by one process at a time."""

    def __init__(self, state: Path) -> None:
        self.path = state / PAYERS_FILE

    def read(self) -> tuple[Payer, ...]:
        """Read the payers; none if there is no file. Raises PayerError."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                text = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise PayerError(f"{self.path} cannot be read: {error.strerror}.") from None
        if found.st_mode & _OTHERS_MAY_WRITE or found.st_uid not in (os.geteuid(), 0):
            raise PayerError(
                f"{self.path} can be written by other users. Check that its payers are yours, "
                f"then: chown {os.geteuid()} and chmod 600 it."
            )
        try:
            return _payers_of(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise PayerError(
                f"{self.path} is broken. Restore it, or delete it and add the payers again with "
                "`bridge payers add NAME`."
            ) from None

    def add(self, payer: Payer) -> None:
        """Add a payer as the last one; raises PayerError."""

        def added(payers: tuple[Payer, ...]) -> tuple[Payer, ...]:
            if any(other.name == payer.name for other in payers):
                raise PayerError(f"A payer named {payer.name} already exists: remove it first.")
            if len(payers) >= MAX_PAYERS:
                raise PayerError(f"There are {MAX_PAYERS} payers already, the most there can be.")
            return (*payers, payer)

        self._change(added)

    def remove(self, name: str) -> tuple[Payer, ...]:
        """Remove a payer, and return those that are left; raises PayerError."""

        def removed(payers: tuple[Payer, ...]) -> tuple[Payer, ...]:
            return tuple(payer for payer in payers if payer.name != find(payers, name).name)

        return self._change(removed)

    def _change(
        self, change: Callable[[tuple[Payer, ...]], tuple[Payer, ...]]
    ) -> tuple[Payer, ...]:
        try:
            private_folder(self.path.parent)
            with locked(self.path):
                payers = change(self.read())
                replace_file(self.path, _text_of(payers))
        except OSError as error:
            raise PayerError(f"{self.path} cannot be written: {error.strerror}.") from None
        return payers


def find(payers: tuple[Payer, ...], name: str) -> Payer:
    """Return the payer with this name; raises PayerError."""
    for payer in payers:
        if payer.name == name:
            return payer
    names = ", ".join(payer.name for payer in payers) or "none"
    raise PayerError(f"No payer is named {name}. The payers are: {names}.")


def _payers_of(content: Any) -> tuple[Payer, ...]:
    if content["version"] != 1:
        raise ValueError
    payers = tuple(_payer_of(entry) for entry in content["payers"])
    if len({payer.name for payer in payers}) < len(payers) or len(payers) > MAX_PAYERS:
        raise ValueError
    return payers


def _payer_of(entry: dict[str, Any]) -> Payer:
    path, overflow, kind = entry["path"], entry["overflow"], PayerKind(entry["kind"])
    if not isinstance(overflow, bool):
        raise ValueError
    if kind in (PayerKind.TOKEN, PayerKind.API_KEY) and not path:
        raise ValueError
    return Payer(entry["name"], kind, Path(path) if path else None, overflow)


def _text_of(payers: tuple[Payer, ...]) -> str:
    entries = [
        {
            "name": payer.name,
            "kind": payer.kind,
            "path": None if payer.path is None else str(payer.path),
            "overflow": payer.overflow,
        }
        for payer in payers
    ]
    return json.dumps({"version": 1, "payers": entries}, indent=2) + "\n"
