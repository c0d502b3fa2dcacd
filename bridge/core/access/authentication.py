"""Who may come in: the one place where both doors ask.

A door calls `authenticate` with the secret that came with a request, and keeps the `Grant` it
gets: its `name` is the request's `caller`. What goes on for long (a conversation on one call, a
watch) asks `check` again at each step, since a key can be revoked meanwhile.
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
    SECRET_PREFIX,
    Key,
    KeyFile,
    KeyFileError,
    KeyLimits,
    KeyScope,
    digest_of,
)
from bridge.core.contract import AuthenticationError, PermissionDeniedError

__all__ = ["ANYONE", "Access", "Grant", "Key", "KeyFileError", "KeyLimits", "KeyScope", "bearer"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often the file of keys is looked at when nobody comes."""

_MISSING: Final = "This server asks for a key: send `authorization: Bearer KEY`."
_WRONG: Final = "The key is none of this server's."
_REVOKED: Final = "The key is no longer one of this server's."
_NO_ADMIN: Final = "This needs a key with the scope admin: bridge keys add NAME --admin."


@dataclass(frozen=True, slots=True)
class Grant:
    """By which key someone came in."""

    name: str = ""
    """The key's name: the `caller` of its requests. Empty where no key is asked for."""
    digest: str = ""

    @property
    def owner(self) -> str:
        """Whose it is what the server keeps of such a request.

        The name alone will not do: a new key may get the name of one that was revoked.
        """
        return f"{self.name}:{self.digest[:32]}" if self.digest else self.name


ANYONE: Final = Grant()
"""Who comes where no key is asked for."""


def bearer(header: str | None) -> str | None:
    """The secret in an `authorization` header or metadata value; None where it has none."""
    scheme, _, secret = (header or "").strip().partition(" ")
    secret = secret.strip()
    return secret if scheme.lower() == "bearer" and secret else None


class Access:
    """The keys in force. They follow the file of keys while `following` runs.

    While there has never been a key, none is required and everyone may everything. From the
    first key on, keys are required until the end, whatever becomes of the file: one that is
    broken leaves the keys as they were, one that is gone takes its keys with it, and neither
    opens the doors. An empty file is one without any valid key.
    """

    def __init__(
        self,
        given: Iterable[Key] = (),
        file: Path | None = None,
        *,
        on_revoked: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Take the given keys and those of the file; raises KeyFileError.

        `on_revoked` gets the name of each key that ends; "" when keys begin to be required.
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
        """Whether a key is asked for."""
        return self._required

    @property
    def keys(self) -> Mapping[str, Key]:
        """The keys in force, by name."""
        return self._keys

    def limits_of(self, caller: str) -> KeyLimits:
        """The limits of the key of this name.

        Raises AuthenticationError where a key is required and this is none any more: between
        the head of a request and its end a key can be revoked.
        """
        key = self._keys.get(caller)
        if key is not None:
            return key.limits
        if self._required:
            raise AuthenticationError(_REVOKED if caller else _MISSING)
        return KeyLimits()

    def authenticate(self, secret: str | None, needed: KeyScope = KeyScope.COMPLETE) -> Grant:
        """Find the key of a secret.

        Raises AuthenticationError where it is missing or wrong, and PermissionDeniedError where
        its scope does not include what is needed.
        """
        self.refresh()
        if not self._required:
            return ANYONE
        if secret is None:
            raise AuthenticationError(_MISSING)
        digest = digest_of(secret)
        found: Key | None = None
        # Every key is compared, so that the time tells nothing of which one it was.
        for key in self._keys.values():
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise AuthenticationError(_WRONG)
        if not found.scope.includes(needed):
            raise PermissionDeniedError(_NO_ADMIN)
        return Grant(found.name, found.digest)

    def check(self, grant: Grant, needed: KeyScope = KeyScope.COMPLETE) -> None:
        """Raise AuthenticationError where what was granted holds no longer.

        Raises PermissionDeniedError as `authenticate` does.
        """
        self.refresh()
        if not self._required:
            return
        key = self._keys.get(grant.name)
        # A new key may have got the name of one that was revoked.
        if key is None or key.digest != grant.digest:
            raise AuthenticationError(_REVOKED if grant.name else _MISSING)
        if not key.scope.includes(needed):
            raise PermissionDeniedError(_NO_ADMIN)

    @contextmanager
    def temporary_key(self, name: str) -> Iterator[str | None]:
        """Give a secret that is good within the block; None where none is asked for."""
        if not self._required:
            yield None
            return
        secret = SECRET_PREFIX + random_secrets.token_urlsafe(32)
        # No key of a person's has brackets in its name.
        key = Key(f"({name})", digest_of(secret))
        self._given[key.name] = self._keys[key.name] = key
        try:
            yield secret
        finally:
            self._given.pop(key.name, None)
            self._keys.pop(key.name, None)
            self.on_revoked(key.name)

    @asynccontextmanager
    async def following(self, seconds: float = LOOK_SECONDS) -> AsyncIterator[None]:
        """Look at the file every so often within the block.

        So a key that is revoked loses its parked conversations even if nobody calls.
        """

        async def look() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    self.refresh()
                except Exception:
                    logger.exception("the file of keys could not be followed")

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def refresh(self) -> None:
        """Read the file of keys again if it has changed."""
        if self._file is None:
            return
        signature = self._file.signature()
        if signature == self._signature:
            return
        # Before it is read: what changes while it is read is seen the next time.
        self._signature = signature
        if signature is None:
            logger.warning("the key file %s is gone, and with it its keys", self._file.path)
        try:
            keys = self._file.read()
        except KeyFileError as error:
            # The same state of the file is not tried again, so this is said once.
            logger.error("%s The keys read before stay in force.", error)
            return
        self._take(keys)

    def _take(self, from_file: tuple[Key, ...]) -> None:
        for key in from_file:
            if key.name in self._given:
                logger.warning("the key %s of BRIDGE_API_KEYS goes before the file's", key.name)
        before, was_required = self._keys, self._required
        self._keys = {key.name: key for key in from_file} | self._given
        self._required = was_required or self._signature is not None or bool(self._keys)
        for name, key in before.items():
            now = self._keys.get(name)
            if now is None or now.digest != key.digest:
                self.on_revoked(name)
        if self._required and not was_required:
            self.on_revoked("")
