"""All stored keys, and what changes them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.core.access.keys.key import Key, OldSecret, check_name


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All stored keys."""

    keys: tuple[Key, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    """By name, the number of the last key that had it, if that has been revoked."""
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version, which are stored again as they are."""

    def added(self, key: Key) -> KeyRing:
        """Return it with a new key, which gets the next number of its name.

        Raises ValueError if the name is taken or invalid.
        """
        check_name(key.name)
        if any(other.name == key.name for other in self.keys):
            raise ValueError(
                f"a key named {key.name} already exists: change it with `bridge keys edit` or "
                "`bridge keys rotate`, or revoke it first"
            )
        number = self.numbers.get(key.name, 0) + 1
        return replace(self, keys=(*self.keys, replace(key, number=number)))

    def without(self, name: str) -> KeyRing:
        """Return it without a key; raises KeyError if there is none with this name."""
        gone = self.get(name)
        return replace(
            self,
            keys=tuple(key for key in self.keys if key is not gone),
            numbers={**self.numbers, name: gone.number},
        )

    def changed(self, name: str, change: Callable[[Key], Key]) -> KeyRing:
        """Return it with a changed key; raises KeyError if there is none with this name."""
        old = self.get(name)
        new = change(old)
        return replace(self, keys=tuple(new if key is old else key for key in self.keys))

    def joined(self, other: KeyRing) -> KeyRing:
        """Return it with the keys of another one that it does not have, by their ids.

        Raises ValueError if a different key has one of their names.
        """
        ids = {key.id for key in self.keys}
        new = tuple(key for key in other.keys if key.id not in ids)
        taken = {key.name for key in self.keys}
        if clash := sorted(key.name for key in new if key.name in taken):
            raise ValueError(f"other keys are named {', '.join(clash)} already: revoke those first")
        names = {*self.numbers, *other.numbers}
        numbers = {n: max(self.numbers.get(n, 0), other.numbers.get(n, 0)) for n in names}
        return replace(self, keys=(*self.keys, *new), numbers=numbers)

    def get(self, name: str) -> Key:
        """Return a key; raises KeyError if there is none with this name."""
        for key in self.keys:
            if key.name == name:
                return key
        raise KeyError(name)


def rotated(key: Key, digest: str, now: int, overlap: int) -> Key:
    """Return a key with a new secret.

    Its present secret stays valid for `overlap` seconds, and earlier ones no longer than that. Of
    those that have ended, only the present one is kept: who still sends it is told so.
    """
    until = now + overlap
    before = (
        replace(old, until=min(old.until, until)) for old in key.old_secrets if old.until > now
    )
    kept = tuple(old for old in before if old.until > now)
    return replace(key, digest=digest, old_secrets=(*kept, OldSecret(key.digest, until)))
