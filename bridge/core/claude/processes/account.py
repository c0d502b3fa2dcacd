"""The account that Claude Code is logged in to, from its own file; no secrets.

A running process picks up a new login by itself, without reporting it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_GIVEN: Final = ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN")
"""A login in the environment does not change while the server runs."""


class AccountFile:
    """Identifies the account. Reads the file only if it has changed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        home = Path(environment.get("HOME") or "~").expanduser()
        folder = Path(environment.get("CLAUDE_CONFIG_DIR") or home)
        self._path = folder / ".claude.json"
        self._fixed = any(environment.get(name) for name in _GIVEN)
        self._signature: tuple[int, ...] = ()
        self._id = ""

    def id(self) -> str:
        """An id of the account and its organisation; empty if there is no /login account."""
        if self._fixed:
            return ""
        try:
            found = self._path.stat()
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            if signature != self._signature:
                self._id = _id_in(json.loads(self._path.read_bytes()))
                self._signature = signature
        except FileNotFoundError:
            self._id, self._signature = "", ()
        except (OSError, ValueError, RecursionError):
            # The file is being written: keep the last value until it can be read.
            pass
        return self._id


class LoginFiles:
    """Notices a login that was stored, also of the same account."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        home = Path(environment.get("HOME") or "~").expanduser()
        folder = Path(environment.get("CLAUDE_CONFIG_DIR") or home / ".claude")
        self._path = folder / ".credentials.json"
        # Where the credentials are in the system's keychain, there is only the account.
        self._account = AccountFile(environment)

    def state(self) -> tuple[object, ...]:
        """Return something that differs once a login was stored."""
        try:
            found = self._path.stat()
        except OSError:
            return (self._account.id(),)
        return found.st_mtime_ns, found.st_size, found.st_ino, self._account.id()


def _id_in(content: object) -> str:
    account = content.get("oauthAccount") if isinstance(content, dict) else None
    if not isinstance(account, dict):
        return ""
    return " ".join(str(account.get(key, "")) for key in ("accountUuid", "organizationUuid"))
