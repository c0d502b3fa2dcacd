"""The seam between the doors and the core: all that a door may ask of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from bridge.core.events import Event
from bridge.core.model import CompletionRequest, Model


@dataclass(frozen=True, slots=True)
class Health:
    """What `/health` and grpc.health.v1 tell."""

    status: str
    """`ok`, `starting`, `draining`, `not_logged_in` or `unavailable`."""
    logged_in: bool
    account: str
    """Where the login comes from, in Claude Code's own word; `none` without one."""
    cli_version: str
    simulated: bool = False
    """Whether the embedded simulator answers instead of a model."""
    pool_size: int = 0
    """The most turns that run at once."""
    processes: dict[str, int] = field(default_factory=dict)
    """CLI processes by state: starting, blank, preparing, idle, running, parked,
    resetting, closing."""
    waiting: int = 0
    """Requests in the queue."""
    lacking: tuple[str, ...] = ()
    """What this Claude Code cannot do and the bridge makes do without, in the probe's words."""

    @property
    def serving(self) -> bool:
        """Whether a completion can be expected to work."""
        return self.status == "ok"


class Service(Protocol):
    """The core, as a door sees it."""

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; close the generator (`aclosing`) to cancel it.

        Raises a BridgeError, before the first event or in the middle.
        """
        ...

    async def models(self) -> tuple[Model, ...]:
        """List the models on offer; raises NotLoggedInError or UnavailableError if unknown."""
        ...

    async def model(self, name: str) -> Model:
        """One model on offer; raises ModelNotFoundError."""
        ...

    def health(self) -> Health:
        """How things stand now."""
        ...
