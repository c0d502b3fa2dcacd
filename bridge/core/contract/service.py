"""The interface between the front ends and the core."""

# long: one interface, and the data that it returns.
from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from bridge.core.contract.errors import BridgeError
from bridge.core.contract.events import Event
from bridge.core.contract.request import CompletionRequest


@dataclass(frozen=True, slots=True)
class Model:
    """A model on offer."""

    id: str
    """A name a request may use: an alias or a full name."""
    resolved: str
    """The full name of the model that answers."""
    display_name: str = ""
    description: str = ""
    efforts: tuple[str, ...] = ()
    default: bool = False


class HealthStatus(StrEnum):
    """Whether completions work and, if not, why."""

    OK = "ok"
    STARTING = "starting"
    DRAINING = "draining"
    NOT_LOGGED_IN = "not_logged_in"
    UNAVAILABLE = "unavailable"
    OVERAGE_AHEAD = "overage_ahead"
    """Serving has stopped before paid extra usage."""


class PayerKind(StrEnum):
    """The kind of account that pays for answers."""

    LOGIN = "login"
    """A subscription, by the login in a folder of Claude Code."""
    TOKEN = "token"
    """A subscription, by a token of `claude setup-token`."""
    API_KEY = "api-key"
    BEDROCK = "bedrock"
    VERTEX = "vertex"
    FOUNDRY = "foundry"

    @property
    def subscription(self) -> bool:
        """Whether it is a subscription login, which serves its owner only."""
        return self in (PayerKind.LOGIN, PayerKind.TOKEN)


class SessionSource(StrEnum):
    """How a request got its session."""

    CONTINUED = "continued"
    """It already held the conversation."""
    WARM = "warm"
    """It was initialised with the same profile."""
    INITIALISED = "initialised"
    """It was initialised for the request."""
    SPAWNED = "spawned"
    """The request waited for its process to start."""


class ReplacementReason(StrEnum):
    """Why a process was replaced by a new one."""

    DIED = "died"
    """It ended by itself."""
    FAILED = "failed"
    """It could not be brought to a known state, or did not answer."""
    WORN = "worn"
    """It had reached its recycling limit."""


@dataclass(frozen=True, slots=True)
class Health:
    """What `/health` and grpc.health.v1 report."""

    status: HealthStatus
    logged_in: bool
    account: str
    """The source of the login, in Claude Code's own word; `none` if there is none."""
    cli_version: str
    subscription: str = ""
    """The name of the account's plan, if Claude Code reports it."""
    simulated: bool = False
    """Whether the embedded simulator answers instead of a model."""
    pool_size: int = 0
    """The maximum number of concurrent turns."""
    processes: dict[str, int] = field(default_factory=dict)
    """CLI processes by state: starting, blank, preparing, idle, running, parked,
    resetting, closing."""
    waiting: int = 0
    """Requests in the queue."""
    detail: str = ""
    """The problem and its remedy, in a sentence; empty if there is none."""
    resets_at: float | None = None
    """When serving is expected to resume, in Unix seconds, if that is known."""
    lacking: tuple[str, ...] = ()
    """Features that this Claude Code lacks and the bridge works without, in the probe's words."""

    @property
    def serving(self) -> bool:
        """Whether completions are expected to work."""
        return self.status == HealthStatus.OK


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """One usage limit of the account, and how much of it is used."""

    limit: str
    """The name of the limit, such as `five_hour`."""
    utilization: float
    """The used share, 0 to 1."""
    resets_at: float | None = None
    """When it resets, in Unix seconds."""
    of_model: bool = False
    """Whether it is for one model or some of them only."""


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """The account's usage limits, as last reported by the API: at the start, or with an answer."""

    status: str
    """`allowed`, `allowed_warning` or `rejected`, in the API's own words."""
    resets_at: float | None = None
    """When the limit resets, in Unix seconds."""
    limit: str = ""
    """The name of the limit, such as `five_hour`."""
    utilization: float | None = None
    """The used share of that limit, 0 to 1, if reported."""
    using_overage: bool = False
    """Whether paid extra usage has started."""
    overage_status: str = ""
    """Whether the account may use paid extra usage, in the API's own words; `rejected` if it is
    off. Empty if not reported."""
    windows: tuple[UsageWindow, ...] = ()
    """The limits whose use the API has reported."""
    said_at: float = 0.0
    """When this was reported, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the start."""

    answered: int = 0
    """Requests answered completely."""
    failed: int = 0
    """Requests that ended in an error."""
    left: int = 0
    """Requests whose caller disconnected."""
    sessions: dict[str, int] = field(default_factory=dict)
    """Requests by the `SessionSource` of their session."""
    processes_started: int = 0
    processes_ended: int = 0
    processes_replaced: dict[str, int] = field(default_factory=dict)
    """Processes that were replaced, by `ReplacementReason`."""


@dataclass(frozen=True, slots=True)
class LimitedModel:
    """A model that a payer does not serve at present."""

    model: str
    """Its full name; empty means every model."""
    reason: str
    """The reason of the error that it gave last."""
    until: float
    """When the payer is asked for it again, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class PayerState:
    """The state of one of several payers."""

    name: str
    kind: PayerKind
    health: Health
    answered: int = 0
    """Requests that it answered completely, since the start."""
    limited: tuple[LimitedModel, ...] = ()
    plan: UsageLimits | None = None
    """None until the API has reported something."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """A snapshot of the pool."""

    health: Health
    max_processes: int
    totals: Totals
    plan: UsageLimits | None = None
    """None until the API has reported something."""
    payers: tuple[PayerState, ...] = ()
    """The payers, if the server has a list of them."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit of a key, and what is left of it."""

    limit: int
    remaining: int
    resets_at: float
    """When all of it is available again, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Allowances:
    """The limits of a key that are counted over time; None means unlimited."""

    requests: Allowance | None = None
    """Per minute."""
    tokens: Allowance | None = None
    """Per day."""


class DetachedAnswer(Protocol):
    """An answer that goes on without its client, and is kept for some time after its end."""

    @property
    def request_id(self) -> str:
        """The server's id of the request."""
        ...

    @property
    def started_on(self) -> float:
        """When it was asked for, in Unix seconds."""
        ...

    @property
    def recorded(self) -> Sequence[Event]:
        """The events so far; their sequence numbers are 1, 2, 3 and so on."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        ...

    @property
    def error(self) -> BridgeError | None:
        """The error that ended it, if any; a RequestCancelledError if it was cancelled."""
        ...

    def events(self, after: int = 0) -> AsyncGenerator[tuple[int, Event], None]:
        """Yield the events with their sequence numbers, from `after` + 1 on, to the end.

        Raises the error that ended the answer, and InvalidRequestError (field
        `after_sequence_number`) for a number that no event of it has had so far. Any number of
        readers may read at once; a reader that leaves does not end the answer.
        """
        ...


OnEnd: TypeAlias = Callable[[DetachedAnswer], Awaitable[None]]
"""Called once an answer has ended; the server waits for it before it stops."""


class Service(Protocol):
    """The core, as a front end sees it.

    An `owner` is a key: what belongs to it does not exist for another. An `id` is the server's id
    of a request or the caller's own.
    """

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; close the generator (`aclosing`) to cancel it.

        Raises a BridgeError, before the first event or later: a RequestIdInUseError if the caller's
        own request id is taken.
        """
        ...

    async def detach(
        self, request: CompletionRequest, on_end: OnEnd | None = None
    ) -> DetachedAnswer:
        """Start an answer that goes on without its client; returns once it is admitted.

        With a caller's request id that an equal detached request has used, returns that one's
        answer, and `on_end` is not called. Raises a BridgeError if the request is refused.
        """
        ...

    async def attach(self, owner: str, id: str) -> DetachedAnswer:
        """Return a detached answer; raises NotFoundError (field `request_id`).

        Raises AnswerElsewhereError if another server of the fleet has it, and StoreUnavailableError
        if that cannot be found out now.
        """
        ...

    async def cancel(self, owner: str, id: str) -> None:
        """Cancel a running request, detached or not; returns once a detached one has ended.

        No effect on a detached answer that has ended. Raises NotFoundError (field `request_id`),
        and what `attach` raises.
        """
        ...

    async def forget(self, owner: str, id: str) -> bool:
        """Cancel a detached answer and keep it no longer; False if there is none.

        Raises AnswerElsewhereError if it runs on another server of the fleet.
        """
        ...

    async def count_tokens(self, request: CompletionRequest) -> int:
        """Estimate the input tokens of a request without answering it; raises a BridgeError."""
        ...

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Record a request that a front end could not decode, as far as it is known."""
        ...

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        """List the models on offer that a caller may use.

        Raises NotLoggedInError or UnavailableError if they are unknown.
        """
        ...

    async def model(self, name: str, caller: str = "") -> Model:
        """Return one model that a caller may use; raises ModelNotFoundError."""
        ...

    async def allowances(self, caller: str) -> Allowances:
        """Return what a key may use now."""
        ...

    def health(self) -> Health:
        """Return the current health."""
        ...

    def pool_state(self) -> PoolState:
        """Return the current state of the pool."""
        ...

    def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        """Yield the state of the pool now and after each change, without end."""
        ...
