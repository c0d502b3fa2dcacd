"""Finds out by itself when a login works again that was refused, or was missing.

A balancer sends nothing to a server that is not ready, so no request would show it. The API counts
tokens at no charge, and only for a login that it accepts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final

from bridge.core.claude import ControlError, ProcessGoneError, Profile, TurnSettings
from bridge.core.contract import BridgeError
from bridge.core.engine.health import AccountState
from bridge.core.engine.resources import Resources
from bridge.core.pool import Need
from bridge.core.telemetry import kind_of

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often the files of a login are looked at while it does not work."""
CHECK_SECONDS: Final = 15.0
"""How often the API is asked meanwhile, if the files stay as they are."""
FREQUENT_CHECKS: Final = 40
"""After so many checks, the API is asked less often."""
RARE_CHECK_SECONDS: Final = 60.0
SAME_TROUBLE_SECONDS: Final = 120.0
"""A login that is refused again so soon after a check has the same trouble."""
_ANSWER_SECONDS: Final = 30.0


class Verdict(Enum):
    """Whether the API accepts the login."""

    ACCEPTED = auto()
    REFUSED = auto()
    UNKNOWN = auto()
    """Only a request can show it."""


async def ask_api(resources: Resources, profile: Profile) -> Verdict:
    """Have a process ask the API whether it accepts the login, at no charge."""
    if not resources.account.first_party:
        return Verdict.UNKNOWN
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            lease = await resources.pool.acquire(Need(profile))
            session = lease.session
            try:
                if session.profile is None:
                    await session.initialise(profile)
                    resources.account.learn(session.facts)
                await session.configure(TurnSettings())
                accepted = await session.login_accepted()
            except BaseException:
                session.mark_broken()
                raise
            finally:
                resources.pool.release(lease)
    except ControlError as error:
        logger.info("the login cannot be checked: %s", kind_of(error))
        return Verdict.UNKNOWN
    except (TimeoutError, BridgeError, ProcessGoneError) as error:
        logger.info("the login could not be checked: %s", kind_of(error))
        return Verdict.REFUSED
    return Verdict.ACCEPTED if accepted else Verdict.REFUSED


class _Due(Enum):
    """Why it is time to ask."""

    STORED = auto()
    """A login was stored."""
    TIME = auto()
    NOT = auto()
    """A request has shown that the login works."""


class LoginWatch:
    """While the login does not work: looks whether its files change, and asks the API."""

    def __init__(
        self,
        account: AccountState,
        ask: Callable[[], Awaitable[Verdict]],
        files: Callable[[], object],
    ) -> None:
        """`files` returns something that differs once a login was stored."""
        self._account = account
        self._ask = ask
        self._files = files
        self._closed = False
        self._watching: asyncio.Task[None] | None = None
        self._checks = 0
        """The number of checks so far in the same trouble."""
        self._checked_at = float("-inf")
        """In the time of the loop."""

    def look(self) -> None:
        """Start to watch if the login does not work."""
        if self._closed or self._account.facts is None or self._account.logged_in:
            return
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Stop watching, for good."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))

    async def _watch(self) -> None:
        now = asyncio.get_running_loop().time
        if now() - self._checked_at > SAME_TROUBLE_SECONDS:
            self._checks = 0
        while (due := await self._due(_pause(self._checks))) is not _Due.NOT:
            self._checks += 1
            try:
                verdict = await self._ask()
            except Exception:
                # Without this task, a server that no balancer asks would never be ready again.
                logger.exception("the login could not be checked")
                verdict = Verdict.REFUSED
            self._checked_at = now()
            match verdict:
                case Verdict.ACCEPTED:
                    self._account.login_works()
                case Verdict.REFUSED if due is _Due.TIME:
                    pass
                case Verdict.UNKNOWN | Verdict.REFUSED:
                    # A user has stored a login on purpose: the next request decides.
                    self._account.login_unknown()
                    if due is _Due.STORED:
                        self._account.relearn()

    async def _due(self, seconds: float) -> _Due:
        """Wait until a login was stored, or for so long, or until the login works."""
        now = asyncio.get_running_loop().time
        files, end = self._files(), now() + seconds
        while not self._account.logged_in:
            if self._files() != files:
                return _Due.STORED
            if now() >= end:
                return _Due.TIME
            await asyncio.sleep(LOOK_SECONDS)
        return _Due.NOT


def _pause(checks: int) -> float:
    return CHECK_SECONDS if checks < FREQUENT_CHECKS else RARE_CHECK_SECONDS
