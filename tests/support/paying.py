"""Stand-ins for the engines of payers: each answers or fails as told, and records who asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from bridge.core.contract.errors import BridgeError
from bridge.core.contract.events import Event, Finished, FinishReason, Started, TextDelta
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import Health, HealthStatus, PayerKind, PoolState, Totals
from bridge.core.contract.usage import Usage
from bridge.core.engine.planning.models import Catalog
from bridge.core.intake.billing import RequestBill
from bridge.core.payers.payers import Payers, PayingEngine, Sharing
from bridge.core.telemetry import Observers, RequestRecord

FULL = "claude-opus-5"


@dataclass
class Asked:
    """One answer of a stand-in."""

    engine: FakeEngine
    request: CompletionRequest
    admitted: Callable[[], None]
    check: Callable[[], None]
    usage: Usage = field(default_factory=Usage)

    async def events(self) -> AsyncGenerator[Event, None]:
        self.engine.catalog.choose(self.request.model)
        self.admitted()
        self.engine.ask(self.request, self.check)
        outcome = next(self.engine.outcomes, None)
        if isinstance(outcome, BridgeError):
            raise outcome
        self.usage = Usage(input_tokens=1)
        yield Started(FULL)
        if isinstance(outcome, Midway):
            raise outcome.error
        yield TextDelta("hi")
        yield Finished(FinishReason.STOP, self.usage)


@dataclass(frozen=True)
class Midway:
    """An answer that fails after it has begun."""

    error: BridgeError


class FakeEngine:
    """Answers, unless its outcomes say otherwise."""

    def __init__(
        self,
        kind: PayerKind | None,
        outcomes: Iterable[BridgeError | Midway | None] = (),
        *,
        subscription: bool | None = None,
        models: tuple[str, ...] = ("default", "opus"),
    ) -> None:
        self.asked: list[CompletionRequest] = []
        self.waited: Callable[[], None] = lambda: None
        """Called when a request has waited: what happens meanwhile."""
        self.seen: Callable[[FakeEngine, CompletionRequest], None] = lambda engine, request: None
        """Called with each request that is sent."""
        self.outcomes: Iterator[BridgeError | Midway | None] = iter(outcomes)
        self.subscription = bool(kind and kind.subscription)
        if subscription is not None:
            self.subscription = subscription
        self.account = SimpleNamespace(facts=object())
        self.launcher = SimpleNamespace(cache_ttl="1h" if self.subscription else "5m")
        self.catalog = Catalog.from_cli([{"value": m, "resolvedModel": FULL} for m in models])
        self.resources = SimpleNamespace(planner=SimpleNamespace(catalog=self.catalog))
        self.pool = SimpleNamespace(announce=lambda: None, forget=lambda caller: None)
        self.status = HealthStatus.OK
        self.fault: Exception | None = None

    async def start(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def drain(self) -> None:
        """It has no processes."""

    async def aclose(self) -> None:
        """It has no processes."""

    def answering(
        self,
        request: CompletionRequest,
        bill: RequestBill,
        admitted: Callable[[], None],
        *,
        since: float | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Asked:
        return Asked(self, request, admitted, check)

    async def counted(
        self, request: CompletionRequest, check: Callable[[], None] = lambda: None
    ) -> int:
        self.ask(request, check)
        return 7

    def ask(self, request: CompletionRequest, check: Callable[[], None]) -> None:
        """Send a request upstream, once its turn has come."""
        self.waited()
        check()
        self.seen(self, request)
        self.asked.append(request)

    def billed(self, record: RequestRecord) -> bool:
        return not self.subscription

    def offered_model(self, record: RequestRecord) -> str:
        return self.catalog.offered(record.model or record.request.model)

    async def models(self, caller: str = "") -> Any:
        return self.catalog.models

    async def model(self, name: str, caller: str = "") -> Any:
        return self.catalog.find(name)

    def health(self) -> Health:
        serving = self.status is HealthStatus.OK
        detail = "" if serving else "It is not logged in."
        return Health(
            self.status, serving, "x", "1", processes={"idle": 1}, waiting=1, detail=detail
        )

    def pool_state(self) -> PoolState:
        return PoolState(self.health(), 4, Totals(processes_started=2))


def payer(
    name: str, kind: PayerKind, engine: FakeEngine, *, overflow: bool = False
) -> PayingEngine:
    return PayingEngine(engine, name, kind, overflow)  # type: ignore[arg-type]


def payers_of(*payers: PayingEngine, observer: Any = None, **shared: Any) -> Payers:
    return Payers(payers, observer or Observers(()), Sharing(**shared))
