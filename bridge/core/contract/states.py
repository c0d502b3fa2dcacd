"""What the core reports of itself: its health, pool and payers, and what a key may still use."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class HealthStatus(StrEnum):
    """Whether completions work and, if not, why."""

    OK = "ok"
    STARTING = "starting"
    DRAINING = "draining"
    NOT_LOGGED_IN = "not_logged_in"
    UNAVAILABLE = "unavailable"
    OVERAGE_AHEAD = "overage_ahead"
    """Serving has stopped before paid extra usage."""
    USAGE_LIMIT = "usage_limit"
    """The account's usage limit is reached."""


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
    """Requests whose caller disconnected, or cancelled them."""
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
