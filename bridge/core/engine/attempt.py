"""One attempt to answer a request: asks a session and reads the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace

from bridge.core.claude import AnswerReader, ControlError, ProcessGoneError, Session, Wire, added
from bridge.core.contract import (
    BridgeError,
    Event,
    Finished,
    FinishReason,
    NotLoggedInError,
    PlanLimitError,
    SessionSource,
    Started,
    Usage,
)
from bridge.core.engine.answer_filters import JsonFilter, StopFilter, filtered
from bridge.core.engine.planning import Plan, errors_named_for
from bridge.core.engine.resources import Resources
from bridge.core.engine.timeouts import AnswerProgress, Deadlines
from bridge.core.pool import Lease, Parking
from bridge.core.system import off_loop
from bridge.core.telemetry import trace_of

logger = logging.getLogger(__name__)


_STOP_SECONDS = 5.0
"""How long the end of an answer may wait for the end of its turn, which takes milliseconds."""


class Attempt:
    """A plan, the session that executes it, and the part of the answer read so far."""

    def __init__(self, plan: Plan, resources: Resources, spent: Usage, *, large: bool) -> None:
        """`spent` is the usage of earlier attempts; a `large` request is compared in a thread."""
        self.plan = plan
        self.lease: Lease | None = None
        """Its session, once it was asked."""
        self.parking: Parking | None = None
        """How the conversation can be held open, if the answer is complete."""
        self.unseen_calls = 0
        """Upstream calls that Claude Code made by itself after the answer was complete."""
        self._unseen_usage = Usage()
        self._resources = resources
        self._large = large
        self._reader: AnswerReader = plan.reader(spent)

    @property
    def usage(self) -> Usage:
        """Tokens of this attempt and of earlier ones."""
        return added(self._reader.usage, self._unseen_usage)

    @property
    def waiting(self) -> BridgeError | None:
        """Why the answer is delayed, while Claude Code is about to retry a failed call."""
        return self._reader.waiting

    def progress(self) -> AnswerProgress:
        """The progress of the answer."""
        if self.lease is None:
            return AnswerProgress()
        inbox = self.lease.session.inbox
        excused = self._reader.thinking or bool(inbox)
        return AnswerProgress(self._reader.begun, inbox.last_line_at, excused)

    def time_out(self) -> None:
        """Make reading the answer raise TimeoutError."""
        if self.lease is not None:
            self.lease.session.inbox.time_out()

    async def ask(self, lease: Lease, trace_parent: str) -> None:
        """Prepare a session for the plan and ask it."""
        session, plan = lease.session, self.plan
        # Only now: they may have been reported while the request waited for the session, which
        # does not report them again.
        self._reader.usage_limits = self._resources.usage_limits.latest
        if session.profile is None:
            await session.initialise(plan.scope.profile)
            self._resources.account.learn(session.facts)
        await session.configure(plan.settings, trace_parent)
        if lease.source is not SessionSource.CONTINUED:
            await session.offer(plan.offered)
            await session.replay(plan.history, plan.model)
            await session.ask(plan.last)
        elif plan.last.tool_results:
            await session.resume(plan.last.tool_results)
        else:
            await session.ask(plan.last)
        self.lease = lease

    async def events(self, deadlines: Deadlines) -> AsyncGenerator[Event, None]:
        """Read, filter and check the answer, and yield its events."""
        assert self.lease is not None
        session, reader, plan = self.lease.session, self._reader, self.plan
        filters = plan.filters()
        stops = next((each for each in filters if isinstance(each, StopFilter)), None)
        json = next((each for each in filters if isinstance(each, JsonFilter)), None)
        # An answer that may prove unfit at its end is requested again, if none of it was passed on.
        holds = plan.request.whole and json is not None
        held: list[Event] = []
        model = plan.model
        while reader.stop_reason is None:
            line = await session.receive()
            events = filtered(self._read(session, line), filters)
            stop = None if stops is None else stops.found
            if stop is not None:
                # The rest of the model's answer is no longer needed.
                end = Finished(FinishReason.STOP, reader.usage, stop)
                events = [*events, *filtered([end], filters[1:])]
            if json is not None and json.whole is not None and plan.schema is not None:
                schemas, caller = self._resources.schemas, plan.scope.caller
                check = schemas.check_answer(plan.schema, json.whole, caller)
                with errors_named_for(plan.request):
                    await deadlines.bound(check)
            for event in events:
                if isinstance(event, Started):
                    model = event.model
                self._resources.planner.thinking.note(event, model)
                if holds and not isinstance(event, Started | Finished):
                    held.append(event)
                    continue
                if isinstance(event, Finished):
                    for each in held:
                        yield each
                    if stop is None:
                        self.parking = await off_loop(self._large, plan.parking, reader)
                        if self.parking is None:
                            await self.end_turn()
                            event = replace(event, usage=self.usage)
                yield event
            if stop is not None:
                return

    async def end_turn(self) -> None:
        """End the turn and count the upstream calls that Claude Code may still make in it."""
        assert self.lease is not None
        session = self.lease.session
        # If this fails, the answer is still complete, and the pool handles the process.
        with contextlib.suppress(ControlError, ProcessGoneError, TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await session.stop()
        unseen = session.inbox.unseen
        self.unseen_calls, self._unseen_usage = unseen.count, unseen.usage

    def _read(self, session: Session, line: Wire) -> list[Event]:
        """Return the events of a line."""
        try:
            with errors_named_for(self.plan.request):
                return list(self._reader.feed(line))
        except NotLoggedInError as error:
            self._resources.account.login_refused(error.message)
            raise
        except PlanLimitError as error:
            if (resets_at := self._reader.limit_resets_at) is not None:
                self._resources.usage_limits.tell_reset(error, resets_at)
            raise
        except (LookupError, TypeError, AttributeError) as error:
            # The line is valid JSON, but still invalid.
            logger.error(
                "terminating process %s: handling its output failed\n%s",
                session.pid,
                trace_of(error),
            )
            session.kill()
            raise ProcessGoneError from error
