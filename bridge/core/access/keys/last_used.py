"""Notes when keys are used, and stores that now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from bridge.core.access.keys.key import Key, KeyStoreError
from bridge.core.access.keys.store import KeySource, later

logger = logging.getLogger(__name__)

STORE_SECONDS: Final = 60.0
"""The least time between two writes."""


class LastUsed:
    """When keys were last used: noted with each request, stored at most once a minute."""

    def __init__(
        self,
        store: KeySource,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._noted: dict[str, int] = {}
        self._next = clock()
        self._complained = False

    def note(self, key: Key) -> None:
        """Note that a key is being used."""
        self._noted[key.id] = int(self._now())

    async def store(self, *, at_once: bool = False) -> None:
        """Store what was noted, if it is time to; failures are logged, once."""
        if not self._noted or not (at_once or self._clock() >= self._next):
            return
        self._next = self._clock() + STORE_SECONDS
        noted, self._noted = self._noted, {}
        try:
            await self._store.note_used(noted)
        except KeyStoreError as error:
            self._noted = later(noted, self._noted)
            if not self._complained:
                self._complained = True
                logger.warning("it is not stored when keys were last used: %s", error)
        except BaseException:
            # Cancelled: whether they are stored is unknown.
            self._noted = later(noted, self._noted)
            raise
        else:
            self._complained = False
