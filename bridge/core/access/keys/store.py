"""Where keys are stored, and the changes that `bridge keys` makes there."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Final

from bridge.core.access.keys.key import SECRET_PREFIX, Key, KeyLimits, KeyScope, KeyUse, digest_of
from bridge.core.access.keys.ring import KeyRing, rotated

OVERLAP_SECONDS: Final = 86_400
"""How long an old secret stays valid by default."""


class KeySource(ABC):
    """Where a server gets its keys from."""

    @property
    def known(self) -> bool:
        """Whether the keys are known; until they are, no request with one of them is served."""
        return True

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the keys are, as the subject of a sentence."""

    @abstractmethod
    def signature(self) -> Hashable | None:
        """Return, without waiting, a value that differs once the keys have changed.

        None if keys have never been stored there, or are gone.
        """

    @abstractmethod
    def ring(self) -> KeyRing:
        """Return the keys; none if there is nothing. Raises KeyStoreError."""

    @abstractmethod
    async def note_used(self, times: Mapping[str, int]) -> None:
        """Store when keys were last used, off the event loop; later times prevail.

        Raises KeyStoreError.
        """

    async def look(self) -> None:  # noqa: B027 - most see changes by themselves
        """Fetch what has changed, if `signature` and `ring` do not see it.

        Raises KeyStoreError, once, if it cannot be used.
        """

    def read(self) -> tuple[Key, ...]:
        """Return the keys; none if there is nothing. Raises KeyStoreError."""
        return self.ring().keys


class KeyStore(KeySource):
    """Where `bridge keys` changes keys. Each change is atomic, also among several processes."""

    @property
    @abstractmethod
    def removal(self) -> str:
        """What an operator does to serve without keys again."""

    @abstractmethod
    def change(self, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
        """Change the keys and return them as they are then.

        Raises KeyStoreError, and what `change` raises.
        """

    @abstractmethod
    def used(self) -> Mapping[str, int]:
        """Return when each key was last used, in Unix seconds, by its id. May wait.

        Raises KeyStoreError.
        """

    def add(
        self,
        name: str,
        scope: KeyScope = KeyScope.COMPLETE,
        limits: KeyLimits = KeyLimits(),  # noqa: B008 - frozen
        use: KeyUse = KeyUse(),  # noqa: B008 - frozen
        expires_at: int | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> str:
        """Add a key and return its secret, which is not stored.

        Raises KeyStoreError, and ValueError if the name is taken or invalid.
        """
        secret = _new_secret()
        key = Key(name, digest_of(secret), scope, limits, int(now()), use, expires_at=expires_at)
        self.change(lambda ring: ring.added(key))
        return secret

    def revoke(self, name: str) -> int:
        """Remove a key and return how many are left.

        Raises KeyStoreError, and KeyError if there is no key with this name.
        """
        return len(self.change(lambda ring: ring.without(name)).keys)

    def edit(self, name: str, change: Callable[[Key], Key]) -> Key:
        """Change a key, not its name or secret, and return it.

        Raises KeyStoreError, KeyError if there is no key with this name, and what `change` raises.
        """
        return self.change(lambda ring: ring.changed(name, change)).get(name)

    def rotate(
        self,
        name: str,
        overlap: int = OVERLAP_SECONDS,
        *,
        now: Callable[[], float] = time.time,
    ) -> str:
        """Give a key a new secret and return it; the old one stays valid for `overlap` seconds.

        Raises KeyStoreError, and KeyError if there is no key with this name.
        """
        secret = _new_secret()
        self.edit(name, lambda key: rotated(key, digest_of(secret), int(now()), overlap))
        return secret


def later(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return the later time of each key."""
    return {id: max(one.get(id, 0), other.get(id, 0)) for id in {**one, **other}}


def _new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(32)
