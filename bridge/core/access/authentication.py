"""Authentication, shared by the HTTP and the gRPC API.

A server calls `authenticate` with the secret of a request and keeps the `Grant` it returns: its
`name` is the request's `caller`. Long-lived calls (a conversation, a watch) call `check` again at
each step, because a key can be revoked meanwhile.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import secrets as random_secrets
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from bridge.core.access.keys import (
    OWNERS_USE,
    SECRET_PREFIX,
    Key,
    KeyLimits,
    KeyOwner,
    KeyScope,
    KeySource,
    KeyStoreError,
    KeyUse,
    LastUsed,
    digest_of,
)
from bridge.core.contract import (
    AuthenticationError,
    BridgeError,
    KeysUnavailableError,
    PermissionDeniedError,
)

__all__ = ["ANYONE", "Access", "Grant", "bearer"]

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
"""How often the stored keys are checked for changes while no request arrives."""

_MISSING: Final = "This server requires an API key: send `authorization: Bearer KEY`."
_UNKNOWN: Final = (
    "This server has not been able to read its API keys since its start: Redis is unavailable. "
    "Try again later."
)
_WRONG: Final = "Invalid API key."
_REVOKED: Final = "This API key has been revoked."
_NO_ADMIN: Final = "This requires a key with the scope admin: bridge keys add NAME --mine --admin."


@dataclass(frozen=True, slots=True)
class Grant:
    """The key that a request was authenticated with."""

    name: str = ""
    """The `caller` of its requests. Empty if no key is required."""
    digest: str = ""
    """Of the secret that it was authenticated with."""
    id: str = ""
    """The key's; see `Key.id`."""

    @property
    def owner(self) -> str:
        """The owner of what the server stores for such a request.

        The name alone is not enough: the number of a key is forgotten with the file of keys.
        """
        return f"{self.name}:{self.id}" if self.id else self.name


ANYONE: Final = Grant()
"""The grant of every request when no key is required."""


def bearer(header: str | None) -> str | None:
    """Return the secret in an `authorization` header or metadata value, or None."""
    scheme, _, secret = (header or "").strip().partition(" ")
    secret = secret.strip()
    return secret if scheme.lower() == "bearer" and secret else None


class Access:
    """The keys in force. They follow the stored keys while `following` runs.

    As long as there has never been a key, none is required and every caller may do everything. Once
    there is a key, keys stay required until the server stops: if the stored keys become unreadable,
    the previous ones stay in force; if they disappear, they are revoked. None left is no valid key.
    While they are not known yet, only the given ones are accepted.
    """

    def __init__(
        self,
        given: Iterable[Key] = (),
        store: KeySource | None = None,
        *,
        on_revoked: Callable[[str], None] = lambda name: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Load the given keys and the stored ones; raises KeyStoreError.

        `on_revoked` is called with the caller of each key of which a secret is no longer valid, or
        "" when keys become required. `now` returns Unix seconds.
        """
        self.on_revoked = on_revoked
        self.on_known: Callable[[], None] = lambda: None
        """Called when the stored keys have become known."""
        self._now = now
        self._given = {key.caller: key for key in given}
        self._store = store
        self._last_used = LastUsed(store, now=now) if store is not None else None
        self._signature: Hashable | None = None
        self._keys: dict[str, Key] = dict(self._given)
        self._secrets = self._all_secrets()
        self._required = bool(self._keys)
        self._live: frozenset[tuple[str, str]] = frozenset()
        self._next_end = math.inf
        if store is not None and store.known:
            self._signature = store.signature()
            self._take(store.read())

    @property
    def required(self) -> bool:
        """Whether a key is required."""
        return self._required or not self.known

    @property
    def known(self) -> bool:
        """Whether the stored keys are known; until then, only the given ones are accepted."""
        return self._store is None or self._store.known

    def require(self) -> None:
        """Require a key from now on, also if there is none."""
        self._required = True

    @property
    def keys(self) -> Mapping[str, Key]:
        """The keys in force, by caller."""
        return self._keys

    def limits_of(self, caller: str) -> KeyLimits:
        """Return the limits of a key.

        Raises AuthenticationError if a key is required and this one is no longer valid: a key can
        be revoked between the head of a request and its end.
        """
        key = self._keys.get(caller)
        if key is not None:
            return key.limits
        if self.required:
            raise self._refusal(_REVOKED if caller else _MISSING)
        return KeyLimits()

    def use_of(self, caller: str) -> KeyUse:
        """Return who may pay for the requests of a key.

        Raises AuthenticationError as `limits_of` does, and if the key has expired.
        """
        self.limits_of(caller)
        key = self._keys.get(caller)
        if key is not None:
            self._check_valid(key, key.digest)
        # Where no key is required, every caller is the owner.
        return OWNERS_USE if key is None else key.use

    @property
    def unmarked(self) -> tuple[str, ...]:
        """The names of the keys that do not say whose requests they are for."""
        return tuple(key.name for key in self._keys.values() if key.use.owner is KeyOwner.UNMARKED)

    def authenticate(self, secret: str | None, needed: KeyScope = KeyScope.COMPLETE) -> Grant:
        """Find the key with this secret.

        Raises AuthenticationError if the secret is missing or wrong, PermissionDeniedError if the
        key's scope does not include `needed`, and KeysUnavailableError if the keys are not known.
        """
        self.refresh()
        if not self.required:
            return ANYONE
        if secret is None:
            raise self._refusal(_MISSING)
        digest = digest_of(secret)
        found: Key | None = None
        # Compare with every secret, so that the time taken does not reveal which one matched.
        for each, key in self._secrets:
            if hmac.compare_digest(each, digest):
                found = key
        if found is None:
            raise self._refusal(_WRONG)
        self._check_valid(found, digest)
        if not found.scope.includes(needed):
            raise PermissionDeniedError(_NO_ADMIN)
        if self._last_used is not None and found.caller not in self._given:
            self._last_used.note(found)
        return Grant(found.caller, digest, found.id)

    def check(self, grant: Grant, needed: KeyScope = KeyScope.COMPLETE) -> None:
        """Raise AuthenticationError if the grant is no longer valid.

        Raises PermissionDeniedError and KeysUnavailableError as `authenticate` does.
        """
        self.refresh()
        if not self.required:
            return
        key = self._keys.get(grant.name)
        # Another key may have the name of a revoked one.
        if key is None or grant.digest not in key.digests:
            raise self._refusal(_REVOKED if grant.name else _MISSING)
        self._check_valid(key, grant.digest)
        if not key.scope.includes(needed):
            raise PermissionDeniedError(_NO_ADMIN)

    def is_admin(self, grant: Grant) -> bool:
        """Whether a caller has the scope admin, as everyone has while no key is required."""
        if grant == ANYONE:
            return not self.required
        key = self._keys.get(grant.name)
        return key is not None and key.id == grant.id and key.scope is KeyScope.ADMIN

    @contextmanager
    def temporary_key(self, name: str) -> Iterator[str | None]:
        """Yield a secret that is valid within the block, or None if no key is required."""
        if not self.required:
            yield None
            return
        secret = SECRET_PREFIX + random_secrets.token_urlsafe(32)
        # No user's key has brackets in its name.
        key = Key(f"({name})", digest_of(secret), use=OWNERS_USE)
        self._given[key.name] = self._keys[key.name] = key
        self._secrets = self._all_secrets()
        try:
            yield secret
        finally:
            self._given.pop(key.name, None)
            self._keys.pop(key.name, None)
            self._secrets = self._all_secrets()
            self.on_revoked(key.name)

    @asynccontextmanager
    async def following(self, seconds: float = LOOK_SECONDS) -> AsyncIterator[None]:
        """Check the stored keys for changes at regular intervals within the block.

        This ends the parked conversations of a revoked key even if no request arrives. It also
        stores when keys were last used.
        """

        async def look() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await self._look()
                    self.refresh()
                    await self._store_use()
                except KeyStoreError as error:
                    logger.error("%s The previous keys stay in force.", error)
                except Exception:
                    logger.exception("the stored keys could not be checked for changes")

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._store_use(at_once=True)

    async def _look(self) -> None:
        if self._store is not None:
            known = self._store.known
            await self._store.look()
            if self._store.known and not known:
                self.on_known()

    def refresh(self) -> None:
        """Read the stored keys again if they have changed, and note which have expired."""
        if self._store is not None and self._store.known:
            signature = self._store.signature()
            if signature != self._signature:
                self._reread(self._store, signature)
        if self._now() >= self._next_end:
            self._note_ended()

    def _reread(self, store: KeySource, signature: Hashable | None) -> None:
        # Taken before reading, so that a change during the read is noticed the next time.
        self._signature = signature
        if signature is None:
            logger.warning("%s is gone; its keys are revoked", store.place)
        try:
            keys = store.read()
        except KeyStoreError as error:
            # What has not changed is not read again, so this is logged once.
            logger.error("%s The previous keys stay in force.", error)
            return
        self._take(keys)

    def _take(self, stored: tuple[Key, ...]) -> None:
        overridden = {key.name for key in self._given.values()}
        for key in stored:
            if key.name in overridden:
                logger.warning("the key %s of BRIDGE_API_KEYS overrides the stored one", key.name)
        was_required = self._required
        kept = {key.caller: key for key in stored if key.name not in overridden}
        self._keys = kept | self._given
        self._secrets = self._all_secrets()
        self._required = was_required or self._signature is not None or bool(self._keys)
        self._note_ended()
        if self._required and not was_required:
            self.on_revoked("")

    def _all_secrets(self) -> tuple[tuple[str, Key], ...]:
        """Return the digest of each secret, also of those that have ended, with its key."""
        return tuple((digest, key) for key in self._keys.values() for digest in key.digests)

    def _note_ended(self) -> None:
        """Report the callers of which a secret is no longer valid."""
        now, before = self._now(), self._live
        self._live = frozenset(
            (key.caller, digest) for key in self._keys.values() for digest in key.valid_digests(now)
        )
        ends = (end for key in self._keys.values() for end in key.ends() if end > now)
        self._next_end = min(ends, default=math.inf)
        for caller in dict.fromkeys(caller for caller, _ in sorted(before - self._live)):
            self.on_revoked(caller)

    def _refusal(self, message: str) -> BridgeError:
        """Return the error of a request without a valid key."""
        if not self.known:
            return KeysUnavailableError(_UNKNOWN)
        return AuthenticationError(message)

    def _check_valid(self, key: Key, digest: str) -> None:
        """Raise AuthenticationError if the key has expired, or this secret of it has ended."""
        if why := key.ended(digest, self._now()):
            raise AuthenticationError(why)

    async def _store_use(self, *, at_once: bool = False) -> None:
        if self._last_used is not None:
            await self._last_used.store(at_once=at_once)
