"""Authentication, shared by the HTTP and the gRPC API.

A server calls `authenticate` with the secret of a request and keeps the `Grant` it returns: its
`name` is the request's `caller`. Long-lived calls (a conversation, a watch) call `check` again at
each step, because a key can be revoked meanwhile.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets as random_secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.core.access.keys import (
    OWNERS_USE,
    SECRET_PREFIX,
    Key,
    KeyFile,
    KeyFileError,
    KeyLimits,
    KeyOwner,
    KeyScope,
    KeyUse,
    digest_of,
)
from bridge.core.contract import AuthenticationError, PermissionDeniedError

__all__ = ["ANYONE", "Access", "Grant", "Key", "KeyFileError", "KeyLimits", "KeyScope", "bearer"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often the key file is checked for changes while no request arrives."""

_MISSING: Final = "This server requires an API key: send `authorization: Bearer KEY`."
_WRONG: Final = "Invalid API key."
_REVOKED: Final = "This API key has been revoked."
_NO_ADMIN: Final = "This requires a key with the scope admin: bridge keys add NAME --mine --admin."


@dataclass(frozen=True, slots=True)
class Grant:
    """The key that a request was authenticated with."""

    name: str = ""
    """The key's name: the `caller` of its requests. Empty if no key is required."""
    digest: str = ""

    @property
    def owner(self) -> str:
        """The owner of what the server stores for such a request.

        The name alone is not enough: a new key may reuse the name of a revoked one.
        """
        return f"{self.name}:{self.digest[:32]}" if self.digest else self.name


ANYONE: Final = Grant()
"""The grant of every request when no key is required."""


def bearer(header: str | None) -> str | None:
    """Return the secret in an `authorization` header or metadata value, or None."""
    scheme, _, secret = (header or "").strip().partition(" ")
    secret = secret.strip()
    return secret if scheme.lower() == "bearer" and secret else None


class Access:
    """The keys in force. They follow the key file while `following` runs.

    As long as there has never been a key, none is required and every caller may do everything. Once
    there is a key, keys stay required until the server stops: if the file breaks, the previous keys
    stay in force; if it disappears, its keys are revoked. An empty file has no valid key.
    """

    def __init__(
        self,
        given: Iterable[Key] = (),
        file: Path | None = None,
        *,
        on_revoked: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Load the given keys and those of the file; raises KeyFileError.

        `on_revoked` is called with the name of each revoked key, or "" when keys become required.
        """
        self.on_revoked = on_revoked
        self._given = {key.name: key for key in given}
        self._file = KeyFile(file) if file is not None else None
        self._signature: tuple[int, ...] | None = None
        self._keys: dict[str, Key] = dict(self._given)
        self._required = bool(self._keys)
        if self._file is not None:
            self._signature = self._file.signature()
            self._take(self._file.read())

    @property
    def required(self) -> bool:
        """Whether a key is required."""
        return self._required

    @property
    def keys(self) -> Mapping[str, Key]:
        """The keys in force, by name."""
        return self._keys

    def limits_of(self, caller: str) -> KeyLimits:
        """Return the limits of the key with this name.

        Raises AuthenticationError if a key is required and this one is no longer valid: a key can
        be revoked between the head of a request and its end.
        """
        key = self._keys.get(caller)
        if key is not None:
            return key.limits
        if self._required:
            raise AuthenticationError(_REVOKED if caller else _MISSING)
        return KeyLimits()

    def use_of(self, caller: str) -> KeyUse:
        """Return who may pay for the requests of the key with this name.

        Raises AuthenticationError as `limits_of` does.
        """
        self.limits_of(caller)
        key = self._keys.get(caller)
        # Where no key is required, every caller is the owner.
        return OWNERS_USE if key is None else key.use

    @property
    def unmarked(self) -> tuple[str, ...]:
        """The names of the keys that do not say whose requests they are for."""
        return tuple(name for name, key in self._keys.items() if key.use.owner is KeyOwner.UNMARKED)

    def authenticate(self, secret: str | None, needed: KeyScope = KeyScope.COMPLETE) -> Grant:
        """Find the key with this secret.

        Raises AuthenticationError if the secret is missing or wrong, and PermissionDeniedError if
        the key's scope does not include `needed`.
        """
        self.refresh()
        if not self._required:
            return ANYONE
        if secret is None:
            raise AuthenticationError(_MISSING)
        digest = digest_of(secret)
        found: Key | None = None
        # Compare with every key, so that the time taken does not reveal which one matched.
        for key in self._keys.values():
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise AuthenticationError(_WRONG)
        if not found.scope.includes(needed):
            raise PermissionDeniedError(_NO_ADMIN)
        return Grant(found.name, found.digest)

    def check(self, grant: Grant, needed: KeyScope = KeyScope.COMPLETE) -> None:
        """Raise AuthenticationError if the grant is no longer valid.

        Raises PermissionDeniedError as `authenticate` does.
        """
        self.refresh()
        if not self._required:
            return
        key = self._keys.get(grant.name)
        # A new key may have the name of a revoked one.
        if key is None or key.digest != grant.digest:
            raise AuthenticationError(_REVOKED if grant.name else _MISSING)
        if not key.scope.includes(needed):
            raise PermissionDeniedError(_NO_ADMIN)

    def is_admin(self, grant: Grant) -> bool:
        """Whether a caller has the scope admin, as everyone has while no key is required."""
        if grant == ANYONE:
            return not self._required
        key = self._keys.get(grant.name)
        return key is not None and key.digest == grant.digest and key.scope is KeyScope.ADMIN

    @contextmanager
    def temporary_key(self, name: str) -> Iterator[str | None]:
        """Yield a secret that is valid within the block, or None if no key is required."""
        if not self._required:
            yield None
            return
        secret = SECRET_PREFIX + random_secrets.token_urlsafe(32)
        # No user's key has brackets in its name.
        key = Key(f"({name})", digest_of(secret), use=OWNERS_USE)
        self._given[key.name] = self._keys[key.name] = key
        try:
            yield secret
        finally:
            self._given.pop(key.name, None)
            self._keys.pop(key.name, None)
            self.on_revoked(key.name)

    @asynccontextmanager
    async def following(self, seconds: float = LOOK_SECONDS) -> AsyncIterator[None]:
        """Check the file for changes at regular intervals within the block.

        This ends the parked conversations of a revoked key even if no request arrives.
        """

        async def look() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    self.refresh()
                except Exception:
                    logger.exception("the key file could not be checked for changes")

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def refresh(self) -> None:
        """Read the key file again if it has changed."""
        if self._file is None:
            return
        signature = self._file.signature()
        if signature == self._signature:
            return
        # Taken before reading, so that a change during the read is noticed the next time.
        self._signature = signature
        if signature is None:
            logger.warning("the key file %s is gone; its keys are revoked", self._file.path)
        try:
            keys = self._file.read()
        except KeyFileError as error:
            # An unchanged file is not read again, so this is logged once.
            logger.error("%s The previous keys stay in force.", error)
            return
        self._take(keys)

    def _take(self, from_file: tuple[Key, ...]) -> None:
        for key in from_file:
            if key.name in self._given:
                logger.warning("the key %s of BRIDGE_API_KEYS overrides the file's", key.name)
        before, was_required = self._keys, self._required
        self._keys = {key.name: key for key in from_file} | self._given
        self._required = was_required or self._signature is not None or bool(self._keys)
        for name, key in before.items():
            now = self._keys.get(name)
            if now is None or now.digest != key.digest:
                self.on_revoked(name)
        if self._required and not was_required:
            self.on_revoked("")
