"""The engine: takes a request through the pool and gives the events of its answer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from bridge.core.abilities import ALL, Abilities
from bridge.core.catalog import Catalog
from bridge.core.checks import check_supported
from bridge.core.client_tools import deliverable
from bridge.core.control import ControlError
from bridge.core.errors import (
    BridgeError,
    DeadlineError,
    InvalidRequestError,
    PlanLimitError,
    ProcessFailedError,
    UnsupportedError,
)
from bridge.core.events import Event
from bridge.core.fingerprint import Scope, answers_exactly, call_ids, fingerprint
from bridge.core.from_claude import CONTINUABLE, AnswerReader
from bridge.core.launch import Launcher
from bridge.core.model import CompletionRequest, Model, Role, ToolMode
from bridge.core.pool import Lease, Need, Parking, Pool, Recycling
from bridge.core.pool_policy import Limits
from bridge.core.process import ProcessGoneError
from bridge.core.recording import RequestRecord, SessionLog
from bridge.core.service import Health
from bridge.core.session import Facts, Session
from bridge.core.to_claude import (
    Profile,
    Turn,
    TurnSettings,
    sampling_named_in,
    settings_of,
    started_with,
    turns_of,
    without_sampling,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine serves; see the settings of the same names."""

    limits: Limits
    timeout: float = 120.0
    """Seconds a whole request may take."""
    queue_size: int = 32
    recycling: Recycling = field(default_factory=Recycling)
    system_prompt: str | None = None
    """For requests without one; None is Claude Code's preset."""
    aliases: tuple[tuple[str, str], ...] = ()
    refuse_unknown_models: bool = False
    log_bodies: bool = False
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """A request, as it is put to a session."""

    scope: Scope
    settings: TurnSettings
    history: tuple[Turn, ...]
    last: Turn
    ignored: tuple[str, ...]

    @property
    def profile(self) -> Profile:
        return self.scope.profile

    @property
    def need(self) -> Need:
        """What to ask the pool for."""
        return Need(
            self.profile,
            self.scope.caller,
            fingerprint(self.scope, self.history) if self._may_continue() else None,
        )

    def _may_continue(self) -> bool:
        if not self.history:
            return False
        calls = call_ids(self.history[-1])
        if not calls:
            return not self.last.tool_results
        return answers_exactly(calls, self.last) and all(map(deliverable, self.last.content))


class Engine:
    """Serves completions from a pool of warm sessions. Use as an async context manager."""

    def __init__(
        self,
        launcher: Launcher,
        options: EngineOptions,
        log: SessionLog,
        *,
        abilities: Abilities = ALL,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._launcher = launcher
        self._options = options
        self._log = log
        self._clock = clock
        self._now = now
        self._on_change = on_change
        self._facts: Facts | None = None
        self._facts_known = asyncio.Event()
        self._catalog = Catalog()
        self._abilities = abilities
        self._refused: dict[str | None, frozenset[str]] = {}
        self._draining = False
        self.pool = Pool(
            self._spawn,
            options.limits,
            queue_size=options.queue_size,
            clock=clock,
            recycling=options.recycling,
            on_change=on_change,
        )

    async def __aenter__(self) -> Engine:
        await self._scout()
        self.pool.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.aclose()
        self._log.close()

    # Service

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; close the generator to cancel it."""
        record = RequestRecord(request, self._clock(), bodies=self._options.log_bodies)
        try:
            async with aclosing(self._complete(request, record)) as events:
                async for event in events:
                    record.see(event, self._clock())
                    yield event
        except BridgeError as error:
            record.error = error.reason
            raise
        except (asyncio.CancelledError, GeneratorExit):
            record.error = record.error or ("" if record.finish else "CLIENT_CLOSED")
            raise
        except Exception:
            record.error = "INTERNAL"
            raise
        finally:
            self._log.write(record.line(self._clock(), self._now()))

    async def models(self) -> tuple[Model, ...]:
        """List the models on offer."""
        await self._facts_known.wait()
        return self._catalog.models

    async def model(self, name: str) -> Model:
        """One model on offer; raises ModelNotFoundError."""
        await self._facts_known.wait()
        return self._catalog.find(name)

    def health(self) -> Health:
        """How things stand now."""
        counts = self.pool.counts()
        facts = self._facts
        account = _account(facts)
        if self._draining:
            status = "draining"
        elif facts is None or (self.pool.failing and not sum(counts.values())):
            status = "unavailable" if self.pool.failing else "starting"
        elif account == "none":
            status = "not_logged_in"
        else:
            status = "ok"
        return Health(
            status=status,
            logged_in=account != "none",
            account="simulated" if self._options.simulated else account,
            cli_version=facts.version if facts else "",
            simulated=self._options.simulated,
            pool_size=self._options.limits.pool_size,
            processes=counts,
            waiting=self.pool.waiting,
            lacking=self._abilities.lacking,
        )

    async def drain(self) -> None:
        """Refuse new requests and wait for those that run."""
        self._draining = True
        self._on_change()
        await self.pool.drain()

    # The life of a request

    async def _complete(
        self, request: CompletionRequest, record: RequestRecord
    ) -> AsyncGenerator[Event, None]:
        check_supported(request)
        loop = asyncio.get_running_loop()
        seconds = self._options.timeout
        if request.timeout is not None:
            seconds = min(seconds, request.timeout)
        deadline = loop.time() + seconds
        lease: Lease | None = None
        parking: Parking | None = None
        replaced = False
        try:
            async with asyncio.timeout_at(deadline):
                await self._facts_known.wait()
            plan = self._plan(request)
            reader: AnswerReader | None = None
            while reader is None or reader.stop_reason is None:
                if lease is None:
                    async with asyncio.timeout_at(deadline):
                        lease = await self._begin(plan, record, deadline)
                    reader = AnswerReader(
                        include_thinking=request.include_thinking, ignored=plan.ignored
                    )
                assert reader is not None
                try:
                    line = await lease.session.receive()
                    for event in reader.feed(line):
                        yield event
                except ProcessGoneError as error:
                    logger.warning(
                        "request %s: the process ended (%s)",
                        request.request_id,
                        lease.session.stderr_tail,
                    )
                    if replaced or reader.model is not None:
                        raise ProcessFailedError(
                            "Claude Code ended in the middle of the answer."
                        ) from error
                    # Nothing was sent yet: a new process takes over, unseen.
                    replaced = True
                    self.pool.release(lease)
                    lease = None
                except InvalidRequestError as error:
                    refused = sampling_named_in(error.message, request)
                    if reader.model is not None or not self._learn_refusal(plan, refused):
                        raise
                    self.pool.release(lease)
                    lease = None
                    plan = self._plan(request)
                except PlanLimitError as error:
                    if reader.limit_resets_at is not None:
                        error.retry_after = max(reader.limit_resets_at - self._now(), 0.0)
                    raise
            if reader.stop_reason in CONTINUABLE:
                answer = reader.answer()
                parking = Parking(
                    fingerprint(plan.scope, (*plan.history, plan.last, answer)), call_ids(answer)
                )
        except TimeoutError as error:
            raise DeadlineError(f"The request took longer than {seconds:g} seconds.") from error
        finally:
            if lease is not None:
                self.pool.release(lease, parking)

    async def _begin(self, plan: _Plan, record: RequestRecord, deadline: float) -> Lease:
        """Lease a session and put the request to it; one that fails is replaced once."""
        need = plan.need
        for attempt in (1, 2):
            lease = await self.pool.acquire(need)
            record.got, record.leased_at = lease.got, self._clock()
            try:
                await self._put(plan, lease, deadline)
            except (ControlError, ProcessGoneError) as error:
                lease.session.broken = True
                self.pool.release(lease)
                logger.warning("process %s failed: %r", lease.session.pid, error)
                if attempt == 2:
                    raise ProcessFailedError(
                        "Claude Code could not take the request.", retry_after=1
                    ) from error
            except BaseException:
                self.pool.release(lease)
                raise
            else:
                return lease
        raise AssertionError("unreachable")

    async def _put(self, plan: _Plan, lease: Lease, deadline: float) -> None:
        session = lease.session
        if session.profile is None:
            await session.initialise(plan.profile)
            self._learn(session)
        await session.configure(plan.settings)
        if lease.got == "continued":
            if plan.last.tool_results:
                await session.resume(plan.last.tool_results, deadline)
            else:
                await session.ask(plan.last, deadline)
            return
        await session.offer(plan.scope.tools)
        await session.replay(plan.history)
        await session.ask(plan.last, deadline)

    def _plan(self, request: CompletionRequest) -> _Plan:
        choice = self._catalog.choose(request.model)
        refused = self._refused.get(choice.name, frozenset())
        request, dropped = without_sampling(request, refused)
        ignored = (*request.ignored, *(("model",) if choice.replaced else ()), *dropped)
        if ignored and request.strict:
            raise UnsupportedError(
                f"{', '.join(ignored)}: no effect on this server, and the request is strict.",
                field=ignored[0],
            )
        turns = turns_of(request.messages)
        if not turns or turns[-1].role is not Role.USER:
            raise InvalidRequestError(
                "The last message must be from the user and must not be empty.",
                field=request.messages[-1].origin if request.messages else "messages",
            )
        settings = settings_of(request, choice.name)
        tools = () if request.tool_choice.mode is ToolMode.NONE else request.tools
        system = request.system or self._options.system_prompt
        scope = Scope(
            request.caller,
            Profile(
                system,
                settings.model if system is None else None,
                started_with(settings, self._abilities.late_settings),
            ),
            settings.model,
            settings.effort,
            settings.thinking,
            tools,
        )
        return _Plan(scope, settings, turns[:-1], turns[-1], ignored)

    def _learn_refusal(self, plan: _Plan, fields: frozenset[str]) -> bool:
        """Remember fields that the model refuses; False if that is nothing new."""
        known = self._refused.get(plan.settings.model, frozenset())
        self._refused[plan.settings.model] = known | fields
        return bool(fields - known)

    # Start

    async def _spawn(self, settings: TurnSettings | None = None) -> Session:
        return await Session.spawn(self._launcher, abilities=self._abilities, settings=settings)

    async def _scout(self) -> None:
        """Learn from a first process what the CLI offers and which account it uses.

        Raises what `Session.spawn` raises.
        """
        session = await self._first_session()
        if _account(session.facts) == "none" and self._launcher.has_api_key:
            # No login, but a key of the person's: that is what pays then.
            await session.close()
            self._launcher = dataclasses.replace(self._launcher, use_api_key=True)
            session = await self._first_session()
        self.pool.adopt(session)

    async def _first_session(self) -> Session:
        session = await self._spawn()
        try:
            await session.initialise(Profile(self._options.system_prompt))
        except BaseException:
            await session.close()
            raise
        self._learn(session)
        return session

    def _learn(self, session: Session) -> None:
        facts = session.facts
        if facts is None or facts == self._facts:
            return
        self._facts = facts
        self._catalog = Catalog.from_cli(
            facts.models,
            aliases=dict(self._options.aliases),
            refuse_unknown=self._options.refuse_unknown_models,
        )
        self._facts_known.set()
        self._on_change()


def _account(facts: Facts | None) -> str:
    """Where the login comes from, in the CLI's word; `none` without one."""
    if facts is None:
        return "none"
    account = facts.account
    for key in ("tokenSource", "apiKeySource"):
        source = account.get(key)
        if source and source != "none":
            return str(source)
    provider = account.get("apiProvider")
    return str(provider) if provider and provider != "firstParty" else "none"
