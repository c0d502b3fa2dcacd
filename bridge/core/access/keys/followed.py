"""A server's copy of the keys in Redis, so that no request waits for Redis."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping

from bridge.core.access.keys.key import KeyStoreError
from bridge.core.access.keys.redis_keys import (
    Stored,
    changes_of,
    load,
    note_used,
    swap,
    version_of,
)
from bridge.core.access.keys.ring import KeyRing
from bridge.core.access.keys.store import KeySource
from bridge.core.redis import RedisLink, RedisUnavailableError

logger = logging.getLogger(__name__)


class FollowedKeys(KeySource):
    """The keys in Redis, as they were when it was last asked. While it is away, they stay so."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._stored: Stored | None = None
        self._unreadable = ""
        """The version that could not be read."""
        self._complained = False

    @property
    def known(self) -> bool:
        """Whether Redis has been asked successfully since the start."""
        return self._stored is not None

    @property
    def place(self) -> str:
        """Where the keys are, as the subject of a sentence."""
        return f"Redis at {self._link.name}"

    def signature(self) -> Hashable | None:
        """Return the version; None if there are no keys, or they are not known."""
        return self._stored.version or None if self._stored is not None else None

    def ring(self) -> KeyRing:
        """Return the keys; none if there is nothing, or nothing is known."""
        return KeyRing() if self._stored is None else self._stored.ring

    async def note_used(self, times: Mapping[str, int]) -> None:
        """Store when keys were last used; see `KeySource.note_used`."""
        await note_used(self._link, times)

    async def look(self) -> None:
        """Fetch the keys if Redis has others; nothing happens while it is away.

        Raises KeyStoreError, once for each version that cannot be read.
        """
        try:
            await self._look()
        except RedisUnavailableError as error:
            if not (self.known or self._complained):
                self._complained = True
                logger.error(
                    "the keys are in Redis at %s, which is unavailable (%s): until it answers, "
                    "this server refuses every request that needs one",
                    self._link.name,
                    error,
                )

    async def _look(self) -> None:
        version = await version_of(self._link)
        own = self._stored
        if own is not None and version == own.version:
            return
        if own is not None and _is_older(version, own):
            # Redis has lost data.
            if await swap(self._link, version, own):
                logger.warning("%s had lost the latest keys; they are stored again", self.place)
            return
        if self._unreadable and version == self._unreadable:
            return
        try:
            self._stored = await load(self._link)
        except KeyStoreError:
            self._unreadable = version
            raise
        self._unreadable = ""


def _is_older(version: str, own: Stored) -> bool:
    try:
        return changes_of(version) < own.changes
    except ValueError:
        # Not a version of the bridge's: loading it says so, once.
        return False
