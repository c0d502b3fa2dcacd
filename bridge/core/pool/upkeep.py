"""Work on a process between two requests: parks its conversation or wipes it."""

from __future__ import annotations

import logging

from bridge.core.claude import ControlError, ProcessGoneError, Session
from bridge.core.contract import ReplacementReason
from bridge.core.pool.leases import PooledProcess, free
from bridge.core.pool.policy import State
from bridge.core.pool.recycling import Recycling
from bridge.core.telemetry import kind_of

logger = logging.getLogger(__name__)


async def settle(process: PooledProcess, recycling: Recycling) -> ReplacementReason | None:
    """Prepare a process for the next request; return the reason if it must be replaced."""
    try:
        return await _settled(process, recycling)
    finally:
        # Unless that was done, its cost is unknown.
        process.charge()


async def _settled(process: PooledProcess, recycling: Recycling) -> ReplacementReason | None:
    session = process.session
    assert session is not None
    parked = process.parking is not None and await _park(process, session, recycling)
    stopped = not parked and await _stop(session)
    if process.bill is not free:
        # Now, also of a process that is replaced: one that has ended cannot be asked.
        process.charge(await session.book())
    # It may have been forgotten meanwhile.
    if parked and process.parking is not None:
        process.state = State.PARKED
        return None
    process.parking = None
    if (stopped or await _stop(session)) and await _wipe(session, recycling):
        process.state = State.BLANK if session.profile is None else State.IDLE
        return None
    return _why_unfit(session)


async def initialise(process: PooledProcess) -> ReplacementReason | None:
    """Initialise a blank with the profile in `preparing`; return the reason if it must be
    replaced."""
    assert process.session is not None
    assert process.preparing is not None
    try:
        await process.session.initialise(process.preparing)
    except (ControlError, ProcessGoneError) as error:
        pid, kind = process.session.pid, kind_of(error)
        logger.warning("process %s could not be initialised: %s", pid, kind)
        return ReplacementReason.FAILED
    return None


async def _park(process: PooledProcess, session: Session, recycling: Recycling) -> bool:
    assert process.parking is not None
    if not process.parking.calls and recycling.due(session):
        # Regardless of the conversation's length: another process can answer its next message.
        return False
    try:
        await session.park(process.parking.calls)
    except (ControlError, ProcessGoneError, TimeoutError) as error:
        logger.info("process %s could not be parked: %s", session.pid, kind_of(error))
        return False
    return session.alive


async def _stop(session: Session) -> bool:
    if not session.alive:
        return False
    try:
        await session.stop()
    except (ControlError, ProcessGoneError, TimeoutError) as error:
        logger.warning("process %s could not be reset: %s", session.pid, kind_of(error))
        session.mark_broken()
        return False
    return True


async def _wipe(session: Session, recycling: Recycling) -> bool:
    return not recycling.due(session) and await session.reset()


def _why_unfit(session: Session) -> ReplacementReason:
    if session.gone:
        return ReplacementReason.DIED
    if session.broken or session.failed:
        return ReplacementReason.FAILED
    return ReplacementReason.WORN
