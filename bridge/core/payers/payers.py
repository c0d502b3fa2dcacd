"""Several engines behind one service: one a payer.

Who may answer a request is decided in `choice`, by whose request it is; which of those does is
decided in `routing`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bridge.core.access import OWNERS_USE, KeyUse, Quotas
from bridge.core.answers import Fleet, RecordingLimits
from bridge.core.contract import (
    DEFAULT_PAYER,
    Allowances,
    CompletionRequest,
    Health,
    Model,
    ModelNotFoundError,
    PayerKind,
    PayerState,
    PoolState,
    UnavailableError,
    shown,
)
from bridge.core.engine import Engine
from bridge.core.intake import Answering, RequestBill, Requests, ServesRequests
from bridge.core.payers.choice import Option, payers_for
from bridge.core.payers.marks import Conversations, Marks
from bridge.core.payers.routing import Routed
from bridge.core.payers.states import health_of, totals_of, without_keys
from bridge.core.telemetry import Observer, RequestRecord, kind_of

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 30.0
"""How often a payer is started again whose first process could not be started."""


@dataclass(frozen=True, slots=True)
class PayingEngine:
    """A payer and its engine."""

    engine: Engine
    name: str = ""
    """Empty if the server has no list of payers: then it is the only one."""
    kind: PayerKind | None = None
    """None: whatever account the operator's Claude Code has."""
    overflow: bool = False

    @property
    def option(self) -> Option:
        """The payer, as the choice sees it."""
        kind = self.kind
        # A billed payer whose processes report something else is not taken for one.
        known = kind is None or self.engine.account.facts is not None
        subscription = (known and self.engine.subscription) or bool(kind and kind.subscription)
        return Option(self.name or DEFAULT_PAYER, subscription, self.overflow)


@dataclass(frozen=True, slots=True)
class Sharing:
    """What the payers share."""

    quotas: Quotas = field(default_factory=Quotas)
    use_of: Callable[[str], KeyUse] = lambda caller: OWNERS_USE
    """Whose requests those of a key are."""
    knows_keys: Callable[[], bool] = lambda: True
    """Whether the keys are known: until they are, no request with one is served."""
    share_login: bool = False
    """Whether a subscription login serves requests that are not its owner's, as the operator says
    (BRIDGE_SHARE_LOGIN)."""
    recordings: RecordingLimits = field(default_factory=RecordingLimits)
    log_bodies: bool = False
    marks: Marks = field(default_factory=Marks)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    fleet: Fleet | None = None
    """The other servers; None if there is none."""


class Payers(ServesRequests):
    """Serves every request with the engine of a payer that may pay for it."""

    def __init__(self, payers: Sequence[PayingEngine], observer: Observer, shared: Sharing) -> None:
        """Take over the engines, in the operator's order; the first one is the usual one."""
        self._payers = {payer.name or DEFAULT_PAYER: payer for payer in payers}
        self._shared = shared
        self._requests = Requests(
            self,
            observer,
            shared.quotas,
            shared.recordings,
            fleet=shared.fleet,
            log_bodies=shared.log_bodies,
            clock=shared.clock,
            now=shared.now,
        )
        self._starting: list[asyncio.Task[None]] = []
        self.named = bool(payers[0].name)
        """Whether the server has a list of payers."""
        self.marks = shared.marks
        self.conversations = Conversations()
        self._answered: Counter[str] = Counter()

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines, in the operator's order."""
        return tuple(payer.engine for payer in self._payers.values())

    @property
    def options(self) -> list[Option]:
        """The payers, as the choice sees them."""
        return [payer.option for payer in self._payers.values()]

    @property
    def usual(self) -> Engine:
        """The engine of the first payer."""
        return self.engines[0]

    def engine(self, name: str) -> Engine:
        """Return the engine of a payer."""
        return self._payers[name].engine

    async def start(self) -> None:
        """Start the engines. Raises what `Engine.start` raises if none of them starts.

        One that does not is started again and again, while others serve.
        """
        started = await asyncio.gather(
            *(engine.start() for engine in self.engines), return_exceptions=True
        )
        failures = [each for each in started if each is not None]
        if len(failures) == len(started):
            raise failures[0]
        for name, failure in zip(self._payers, started, strict=True):
            if failure is not None:
                logger.error("payer %s could not be started: %s", name, kind_of(failure))
                self._starting.append(asyncio.create_task(self._start_later(name)))

    async def _start_later(self, name: str) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self.engine(name).start()
            except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
                logger.error("payer %s could not be started: %s", name, kind_of(error))
            else:
                return

    async def aclose(self) -> None:
        """End every process of every payer, whatever it is doing."""
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(engine.aclose() for engine in self.engines))
        await self._requests.aclose()

    def announce_stop(self) -> None:
        """Report that the server stops. Requests are still served until `drain`."""
        for engine in self.engines:
            engine.announce_stop()

    async def drain(self) -> None:
        """Refuse new requests and wait for the running ones."""
        await asyncio.gather(*(engine.drain() for engine in self.engines))
        await self._requests.finished()

    def forget_caller(self, caller: str) -> None:
        """Stop holding conversations of a caller open."""
        for engine in self.engines:
            engine.pool.forget(caller)

    def allowed(self, caller: str) -> tuple[str, ...]:
        """Return the payers that may answer a caller, in order; raises PermissionDeniedError."""
        shared, use = self._shared, self._shared.use_of(caller)
        if not (self.named or use.mine or shared.share_login) and not self.usual.account.facts:
            raise UnavailableError("The server is starting: its account is not known yet.")
        return payers_for(use, self.options, share_login=shared.share_login)

    def check(self, name: str, caller: str) -> None:
        """Raise a BridgeError unless a payer may still answer a caller.

        While a request waits, its key may be changed, and a payer may turn out to have another
        account than the one that it was added as.
        """
        if name not in self.allowed(caller):
            raise UnavailableError(
                "Who pays for this API key has changed while the request waited. Send it again.",
                reason="PAYERS_CHANGED",
            )

    # Service

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        """List the models of the payers that may answer a caller, each once."""
        found: dict[str, Model] = {}
        for engine in self._known(caller):
            for model in await engine.models(caller):
                found.setdefault(model.id, model)
        return tuple(found.values())

    async def model(self, name: str, caller: str = "") -> Model:
        """Return one model that a caller may use; raises ModelNotFoundError."""
        refused: ModelNotFoundError | None = None
        for engine in self._known(caller):
            try:
                return await engine.model(name, caller)
            except ModelNotFoundError as error:
                refused = refused or error
        raise refused or ModelNotFoundError(f"There is no model {shown(name)}.", model=name)

    def _known(self, caller: str) -> list[Engine]:
        """Return the engines that may answer a caller: those that have started, if any."""
        engines = [self.engine(name) for name in self.allowed(caller)]
        return [engine for engine in engines if engine.account.facts is not None] or engines[:1]

    async def allowances(self, caller: str) -> Allowances:
        """Return what a key may use now."""
        return await self._shared.quotas.allowances(caller)

    def health(self) -> Health:
        """Return whether completions work: they do while any payer can serve."""
        now = self.usual.health()
        if self.named:
            now = health_of({name: each.engine.health() for name, each in self._payers.items()})
        return now if self._shared.knows_keys() else without_keys(now)

    def pool_state(self) -> PoolState:
        """Return the current state of the pools together, and of each payer."""
        states = [engine.pool_state() for engine in self.engines]
        return dataclasses.replace(
            states[0],
            health=self.health(),
            totals=totals_of(self._requests.totals(), states),
            payers=tuple(self._states(states)) if self.named else (),
        )

    def _states(self, states: Sequence[PoolState]) -> list[PayerState]:
        now = self._shared.now()
        return [
            PayerState(
                payer.name,
                payer.kind or PayerKind.LOGIN,
                state.health,
                self._answered[payer.name],
                self.marks.of(payer.name, now),
                state.plan,
            )
            for payer, state in zip(self._payers.values(), states, strict=True)
        ]

    async def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        """Yield the state of the pools now and after each change, without end."""
        last: PoolState | None = None
        while True:
            state = self.pool_state()
            if state != last:
                last = state
                yield state
            else:
                await self._changed()

    async def _changed(self) -> None:
        """Wait until any of the pools has changed."""
        waits = [asyncio.ensure_future(engine.pool.changed()) for engine in self.engines]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def candidates(self, names: Sequence[str], request: CompletionRequest) -> list[str]:
        """Return those of some payers that have started and offer the requested model.

        If none offers it, those that have started: what becomes of the name is the engine's.
        """
        started = [name for name in names if self.engine(name).account.facts is not None]
        offering = [name for name in started if self._offers(name, request)]
        return offering or started or list(names[:1])

    def _offers(self, name: str, request: CompletionRequest) -> bool:
        try:
            catalog = self.engine(name).resources.planner.catalog
            return not catalog.choose(request.model, strict=request.strict).replaced
        except ModelNotFoundError:
            return False

    def has_answered(self, name: str) -> None:
        """Count a complete answer of a payer."""
        self._answered[name] += 1

    # Answerer

    def answering(
        self, request: CompletionRequest, bill: RequestBill, admitted: Callable[[], None]
    ) -> Answering:
        """Begin to answer; raises PermissionDeniedError if no payer may."""
        names = self.allowed(request.caller)
        if not self.named:
            check = partial(self.check, names[0], request.caller)
            return self.usual.answering(request, bill, admitted, check=check)
        return Routed(self, names, request, bill, admitted, self._shared.now)

    async def counted(self, request: CompletionRequest) -> int:
        """Estimate the input tokens of a request with the first payer that can serve it."""
        names = self.allowed(request.caller)
        if len(names) > 1:
            await self.marks.refresh()
        now = self._shared.now()
        known = self.candidates(names, request)
        usable = self.marks.usable(known, self.offered(names, request.model), now)
        check = partial(self.check, usable[0], request.caller)
        return await self.engine(usable[0]).counted(request, check)

    def offered(self, names: Sequence[str], model: str | None) -> str:
        """Return the full name of a model that any of the payers offers, or the name itself."""
        catalogs = (self.engine(name).resources.planner.catalog for name in names)
        return next(filter(None, (each.offered(model) for each in catalogs)), model or "")

    def offered_model(self, record: RequestRecord) -> str:
        """Return the model that answered, or else the requested one, if it is on offer, or ""."""
        found = (engine.offered_model(record) for engine in self.engines)
        return next(filter(None, found), "")

    def billed(self, record: RequestRecord) -> bool:
        """Return whether the payer of a request is billed for each token."""
        payer = self._payers.get(record.payer)
        return payer is not None and payer.engine.billed(record)

    def announce(self) -> None:
        """Inform watchers that the counts have changed."""
        self.usual.pool.announce()
