"""The JSON text in which keys are stored. Pure.

Versions that do not know a field ignore it, and keep it when they change a key. A field that must
not be ignored raises the version of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from bridge.core.access.keys.key import (
    Key,
    KeyLimits,
    KeyOwner,
    KeyScope,
    KeyUse,
    OldSecret,
    check_name,
)
from bridge.core.access.keys.ring import KeyRing

NEWEST: Final = 2
"""Version 1 knows no expiry: its readers would accept an expired key."""

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_ID: Final = re.compile("[0-9a-f]{32}")
_ENTRY: Final = frozenset(
    {"name", "sha256", "scope", "limits", "created_at", "owner", "payers", "overflow"}
    | {"number", "id", "expires_at", "old_secrets"}
)
_LIMITS: Final = frozenset(field.name for field in fields(KeyLimits))


BROKEN: Final = (
    ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
)  # fmt: skip
"""What `ring_of` raises for a broken text. The errors' own texts could repeat parts of it."""


class NewerTextError(Exception):
    """A newer version of the bridge wrote the text; the error's text says what is unknown."""


def ring_of(text: str | bytes) -> KeyRing:
    """Parse the stored keys.

    Raises NewerTextError, and one of BROKEN if the text is broken.
    """
    content = json.loads(text)
    version = content["version"]
    if type(version) is not int or version < 1:
        raise ValueError
    if version > NEWEST:
        raise NewerTextError(f"it has the format {version}, and this version reads up to {NEWEST}")
    ring = KeyRing(
        tuple(_key_of(entry) for entry in content["keys"]),
        {check_name(name): _number(number) for name, number in content.get("numbers", {}).items()},
        {n: value for n, value in content.items() if n not in ("version", "keys", "numbers")},
    )
    if len({key.name for key in ring.keys}) < len(ring.keys):
        raise ValueError
    return ring


def text_of(ring: KeyRing) -> str:
    """Return the text of keys."""
    version = NEWEST if any(key.expires_at is not None for key in ring.keys) else 1
    content: dict[str, Any] = {
        "version": version,
        "keys": [_entry_of(key) for key in ring.keys],
        **({"numbers": dict(ring.numbers)} if ring.numbers else {}),
        **ring.unknown,
    }
    return json.dumps(content, indent=2) + "\n"


def _key_of(entry: Mapping[str, Any]) -> Key:
    expires_at: int | None = entry.get("expires_at")
    if expires_at is not None and type(expires_at) is not int:
        raise ValueError
    digest = _matching(_DIGEST, entry["sha256"])
    return Key(
        check_name(entry["name"]),
        digest,
        KeyScope(entry["scope"]),
        _limits_of(entry["limits"]),
        int(entry["created_at"]),
        _use_of(entry),
        _number(entry.get("number", 1)),
        _matching(_ID, entry["id"]) if "id" in entry else "",
        expires_at,
        tuple(_old_of(old) for old in entry.get("old_secrets", ())),
        {name: value for name, value in entry.items() if name not in _ENTRY},
    )


def _limits_of(entry: Mapping[str, Any]) -> KeyLimits:
    if unknown := sorted(name for name in entry if name not in _LIMITS and name.isidentifier()):
        # Ignored, it would not limit anything.
        raise NewerTextError(f"this version does not know the limit {unknown[0][:64]}")
    limits = dict(entry)
    models: Sequence[str] = limits.pop("models")
    if not (isinstance(models, list) and all(isinstance(model, str) for model in models)):
        raise ValueError
    return KeyLimits(models=tuple(models), **limits)


def _use_of(entry: Mapping[str, Any]) -> KeyUse:
    # Texts of earlier versions do not say it.
    payers, overflow = entry.get("payers", []), entry.get("overflow", False)
    if not (isinstance(payers, list) and all(isinstance(payer, str) for payer in payers)):
        raise ValueError
    if not isinstance(overflow, bool):
        raise ValueError
    return KeyUse(KeyOwner(entry.get("owner", KeyOwner.UNMARKED)), tuple(payers), overflow)


def _old_of(entry: Mapping[str, Any]) -> OldSecret:
    return OldSecret(_matching(_DIGEST, entry["sha256"]), int(entry["until"]))


def _number(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError
    return value


def _matching(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError
    return value


def _entry_of(key: Key) -> dict[str, Any]:
    entry = {
        "name": key.name,
        "sha256": key.digest,
        "scope": key.scope,
        "limits": asdict(key.limits),
        "created_at": key.created_at,
        **asdict(key.use),
        "number": key.number,
        "id": key.id,
        **key.unknown,
    }
    if key.expires_at is not None:
        entry["expires_at"] = key.expires_at
    if key.old_secrets:
        entry["old_secrets"] = [
            {"sha256": old.digest, "until": old.until} for old in key.old_secrets
        ]
    return entry
