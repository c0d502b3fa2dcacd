"""API keys: their format, `BRIDGE_API_KEYS`, and the key file.

Only the SHA-256 of a secret is stored. A slow hash would add nothing: a generated secret has 256
random bits, too many to guess at any cost per try. Secrets chosen by a user (`BRIDGE_API_KEYS`) are
in the environment in clear text anyway; short ones are refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from bridge.core.system import locked, private_folder, replace_file

KEYS_FILE: Final = "keys.json"
"""Its default name in the state folder."""
SECRET_PREFIX: Final = "sk-bridge-"
MIN_SECRET_LENGTH: Final = 16
"""Of a secret chosen by a user."""
MAX_FILE_BYTES: Final = 1024 * 1024

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_GIVEN: Final = re.compile(
    rf"(?P<name>{_NAME.pattern})(?P<admin>:admin)?(?P<mine>:mine)?=(?P<secret>.*)"
)
_VISIBLE: Final = re.compile(r"[!-~]+")
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class KeyScope(StrEnum):
    """What a key may do; ADMIN includes COMPLETE."""

    COMPLETE = "complete"
    ADMIN = "admin"

    def includes(self, needed: KeyScope) -> bool:
        """Return whether this scope is enough if `needed` is required."""
        return self is KeyScope.ADMIN or needed is KeyScope.COMPLETE


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of a key. None means unlimited; an empty `models` means all models."""

    concurrent: int | None = None
    """Concurrent requests."""
    per_minute: int | None = None
    """Requests started within any 60 seconds."""
    tokens_per_day: int | None = None
    """Tokens of prompts and answers, cached ones included, per UTC day."""
    models: tuple[str, ...] = ()
    """The models that the key may use, by any of their names."""
    tokens_per_month: int | None = None
    """The same, per UTC month."""
    usd_per_day: float | None = None
    """US dollars at list price, per UTC day."""
    usd_per_month: float | None = None
    """The same, per UTC month."""
    warn_at: int = 80
    """The percentage of a budget from which the log warns."""
    shadow: bool = False
    """Whether budgets are counted only: a request over one is not refused."""

    def __post_init__(self) -> None:
        for name in ("concurrent", "per_minute", "tokens_per_day", "tokens_per_month"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1")
        for name in ("usd_per_day", "usd_per_month"):
            usd = getattr(self, name)
            if usd is not None and not (type(usd) in (int, float) and 0 < usd < math.inf):
                raise ValueError(f"{name} must be a number above 0")
        if type(self.warn_at) is not int or not 1 <= self.warn_at <= 100:
            raise ValueError("warn_at must be a whole number from 1 to 100")
        if type(self.shadow) is not bool:
            raise ValueError("shadow must be true or false")

    def has_budget(self, unit: str) -> bool:
        """Whether there is a budget in this unit, `tokens` or `usd`."""
        return any(getattr(self, f"{unit}_per_{period}") is not None for period in ("day", "month"))


class KeyOwner(StrEnum):
    """Whose requests a key is for."""

    MINE = "mine"
    """The owner's of the server: a subscription login may serve them."""
    OTHER = "other"
    """Someone else's: a subscription login may not."""
    UNMARKED = "unmarked"
    """Not said, as by earlier versions: counts as the owner's."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Whose requests a key is for, and who pays for them."""

    owner: KeyOwner = KeyOwner.UNMARKED
    payers: tuple[str, ...] = ()
    """In order; empty means the owner's usual ones."""
    overflow: bool = False
    """Whether a billed payer of the list may answer when the login before it cannot."""

    @property
    def mine(self) -> bool:
        """Whether it counts as the owner's."""
        return self.owner is not KeyOwner.OTHER


OWNERS_USE: Final = KeyUse(KeyOwner.MINE)


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    name: str
    digest: str
    """The SHA-256 of the secret, in hexadecimal digits."""
    scope: KeyScope = KeyScope.COMPLETE
    limits: KeyLimits = KeyLimits()
    created_at: int = 0
    """In Unix seconds; 0 if unknown."""
    use: KeyUse = KeyUse()


class KeyFileError(Exception):
    """The key file cannot be used. The text is one line: the reason and the remedy."""


def digest_of(secret: str) -> str:
    """Return the digest that is stored for a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """Return the name of a key; raises ValueError if it is invalid."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a key's name has 1 to 64 letters, digits, dots, dashes and underscores, "
            "and starts with a letter or a digit"
        )
    return name


def parse_given(text: str) -> tuple[Key, ...]:
    """Parse the keys of `BRIDGE_API_KEYS`: `secret`, `name=secret` or `name:admin:mine=secret`.

    They are separated by commas. Raises ValueError, which contains no part of any secret.
    """
    keys: list[Key] = []
    for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        match = _GIVEN.fullmatch(entry)
        name, secret = (match["name"], match["secret"]) if match else (f"key-{number}", entry)
        if len(secret) < MIN_SECRET_LENGTH or not _VISIBLE.fullmatch(secret):
            raise ValueError(
                f"key number {number} needs a secret of at least {MIN_SECRET_LENGTH} visible "
                "ASCII characters (a secret that contains = needs a name before it: name=secret)"
            )
        scope = KeyScope.ADMIN if match and match["admin"] else KeyScope.COMPLETE
        use = OWNERS_USE if match and match["mine"] else KeyUse()
        keys.append(Key(name, digest_of(secret), scope, use=use))
    if not keys:
        raise ValueError("it contains no key; unset it to serve without keys")
    if len({key.name for key in keys}) < len(keys):
        raise ValueError("two keys have the same name")
    if len({key.digest for key in keys}) < len(keys):
        raise ValueError("two keys have the same secret")
    return tuple(keys)


class KeyFile:
    """The file of hashed keys. Changes are atomic, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signature(self) -> tuple[int, ...] | None:
        """Return a value that differs once the file has changed; None if there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return (error.errno or 0,)
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode)

    def read(self) -> tuple[Key, ...]:
        """Read the keys; none if there is no file. Raises KeyFileError."""
        try:
            with self.path.open("rb") as file:
                self._check_safe(os.fstat(file.fileno()))
                text = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise KeyFileError(
                f"The key file {self.path} cannot be read: {error.strerror}."
            ) from None
        try:
            if len(text) > MAX_FILE_BYTES:
                raise ValueError("it is too large")
            return _keys_of(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            # The error's own text could repeat the file's content.
            raise KeyFileError(
                f"The key file {self.path} is broken. Restore it, or move it away and create new "
                "keys with `bridge keys add NAME --mine`."
            ) from None

    def add(
        self,
        name: str,
        scope: KeyScope = KeyScope.COMPLETE,
        limits: KeyLimits = KeyLimits(),
        use: KeyUse = KeyUse(),
        *,
        now: Callable[[], float] = time.time,
    ) -> str:
        """Add a key and return its secret, which is not stored.

        Raises KeyFileError, and ValueError if the name is taken or invalid.
        """
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        key = Key(check_name(name), digest_of(secret), scope, limits, int(now()), use)

        def added(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            if any(other.name == name for other in keys):
                raise ValueError(f"a key named {name} already exists: revoke it first")
            return (*keys, key)

        self._change(added)
        return secret

    def revoke(self, name: str) -> int:
        """Remove a key and return how many are left.

        Raises KeyFileError, and KeyError if there is no key with this name.
        """

        def removed(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            left = tuple(key for key in keys if key.name != name)
            if len(left) == len(keys):
                raise KeyError(name)
            return left

        return len(self._change(removed))

    def mark(self, name: str, use: KeyUse) -> None:
        """Say whose requests a key is for, and who pays for them.

        Raises KeyFileError, and KeyError if there is no key with this name.
        """

        def marked(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            if all(key.name != name for key in keys):
                raise KeyError(name)
            return tuple(replace(key, use=use) if key.name == name else key for key in keys)

        self._change(marked)

    def _change(self, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> tuple[Key, ...]:
        try:
            private_folder(self.path.parent)
            with locked(self.path):
                keys = change(self.read())
                replace_file(self.path, _text_of(keys))
        except OSError as error:
            raise KeyFileError(
                f"The key file {self.path} cannot be written: {error.strerror}."
            ) from None
        return keys

    def _check_safe(self, found: os.stat_result) -> None:
        """Check that no other user can write or replace the file, and so create a key."""
        folder = self.path.parent.stat()
        if found.st_mode & _OTHERS_MAY_WRITE or found.st_uid not in (os.geteuid(), 0):
            raise KeyFileError(
                f"The key file {self.path} can be written by other users. Check that its keys are "
                f"yours, then: chown {os.geteuid()} and chmod 600 it."
            )
        if folder.st_mode & _OTHERS_MAY_WRITE and not folder.st_mode & stat.S_ISVTX:
            raise KeyFileError(
                f"The folder of the key file, {self.path.parent}, can be written by other users. "
                "Move the file into a folder that only you can write to, and name it in "
                "BRIDGE_KEYS_FILE."
            )


def _keys_of(content: Any) -> tuple[Key, ...]:
    if content["version"] != 1:
        raise ValueError
    keys = tuple(_key_of(entry) for entry in content["keys"])
    if len({key.name for key in keys}) < len(keys):
        raise ValueError
    return keys


def _key_of(entry: Mapping[str, Any]) -> Key:
    limits = dict(entry["limits"])
    models: Sequence[str] = limits.pop("models")
    digest: str = entry["sha256"]
    if not (isinstance(models, list) and all(isinstance(model, str) for model in models)):
        raise ValueError
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError
    return Key(
        check_name(entry["name"]),
        digest,
        KeyScope(entry["scope"]),
        KeyLimits(models=tuple(models), **limits),
        int(entry["created_at"]),
        _use_of(entry),
    )


def _use_of(entry: Mapping[str, Any]) -> KeyUse:
    # Files of earlier versions do not say it.
    payers, overflow = entry.get("payers", []), entry.get("overflow", False)
    if not (isinstance(payers, list) and all(isinstance(payer, str) for payer in payers)):
        raise ValueError
    if not isinstance(overflow, bool):
        raise ValueError
    return KeyUse(KeyOwner(entry.get("owner", KeyOwner.UNMARKED)), tuple(payers), overflow)


def _text_of(keys: tuple[Key, ...]) -> str:
    entries = [
        {
            "name": key.name,
            "sha256": key.digest,
            "scope": key.scope,
            "limits": asdict(key.limits),
            "created_at": key.created_at,
            **asdict(key.use),
        }
        for key in keys
    ]
    return json.dumps({"version": 1, "keys": entries}, indent=2) + "\n"
