"""The seam between the front ends and the core: all that a front end may ask of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

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
    """Whether completions work, and if not, why."""

    OK = "ok"
    STARTING = "starting"
    DRAINING = "draining"
    NOT_LOGGED_IN = "not_logged_in"
    UNAVAILABLE = "unavailable"
    OVERAGE_AHEAD = "overage_ahead"
    """Serving has stopped before paid extra usage."""


class SessionSource(StrEnum):
    """How a request was given its session."""

    CONTINUED = "continued"
    """It held the conversation already."""
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
    """It had served enough."""


@dataclass(frozen=True, slots=True)
class Health:
    """What `/health` and grpc.health.v1 report."""

    status: HealthStatus
    logged_in: bool
    account: str
    """Where the login comes from, in Claude Code's own word; `none` without one."""
    cli_version: str
    subscription: str = ""
    """The name of the account's plan, where Claude Code reports it."""
    simulated: bool = False
    """Whether the embedded simulator answers instead of a model."""
    pool_size: int = 0
    """The most turns that run at once."""
    processes: dict[str, int] = field(default_factory=dict)
    """CLI processes by state: starting, blank, preparing, idle, running, parked,
    resetting, closing."""
    waiting: int = 0
    """Requests in the queue."""
    detail: str = ""
    """What is wrong and what to do, in a sentence; empty where nothing is."""
    lacking: tuple[str, ...] = ()
    """What this Claude Code cannot do and the bridge makes do without, in the probe's words."""

    @property
    def serving(self) -> bool:
        """Whether a completion can be expected to work."""
        return self.status == HealthStatus.OK


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """One of the plan's limits, and how much of it is used."""

    limit: str
    """Which limit it is, such as `five_hour`."""
    utilization: float
    """The used share, 0 to 1."""
    resets_at: float | None = None
    """When it is lifted, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What the API last reported of the account's usage limits."""

    status: str
    """`allowed`, `allowed_warning` or `rejected`, in the API's own words."""
    resets_at: float | None = None
    """When the limit is lifted, in Unix seconds."""
    limit: str = ""
    """Which limit it is about, such as `five_hour`."""
    utilization: float | None = None
    """The used share of that limit, 0 to 1, where it was said."""
    using_overage: bool = False
    """Whether paid extra usage has begun."""
    overage_status: str = ""
    """Whether the account may go on to paid extra usage, in the API's own words; `rejected` where
    that is off. Empty where it was not said."""
    windows: tuple[UsageWindow, ...] = ()
    """The limits that the API has told the use of."""
    said_at: float = 0.0
    """When it was said, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the start."""

    answered: int = 0
    """Requests answered to the end."""
    failed: int = 0
    """Requests that ended in an error."""
    left: int = 0
    """Requests whose caller went away."""
    sessions: dict[str, int] = field(default_factory=dict)
    """Requests by the `SessionSource` of their session."""
    processes_started: int = 0
    processes_ended: int = 0
    processes_replaced: dict[str, int] = field(default_factory=dict)
    """Those of them that were replaced, by `ReplacementReason`."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """The pool at a moment."""

    health: Health
    max_processes: int
    totals: Totals
    plan: UsageLimits | None = None
    """None until the API has said something."""


class Service(Protocol):
    """The core, as a front end sees it."""

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; close the generator (`aclosing`) to cancel it.

        Raises a BridgeError, before the first event or in the middle.
        """
        ...

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Record a request that a front end could not read: as much of it as is known."""
        ...

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        """List the models on offer that a caller may use.

        Raises NotLoggedInError or UnavailableError if they are unknown.
        """
        ...

    async def model(self, name: str, caller: str = "") -> Model:
        """One model on offer that a caller may use; raises ModelNotFoundError."""
        ...

    def health(self) -> Health:
        """How things stand now."""
        ...

    def pool_state(self) -> PoolState:
        """How the pool stands now."""
        ...

    def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        """Give how the pool stands now, and again whenever that has changed; without end."""
        ...
