"""The interface between the front ends and the core."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bridge.core.contract.errors import BridgeError
from bridge.core.contract.events import Event
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import Allowances, Health, PoolState


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
        """Return a detached answer; raises NotFoundError (field `request_id`), AnswerElsewhereError
        if another server has it, or StoreUnavailableError if that cannot be found out."""
        ...

    async def cancel(self, owner: str, id: str) -> None:
        """Cancel a running request, detached or not; returns once a detached one has ended.

        No effect on a detached answer that has ended. Raises what `attach` raises.
        """
        ...

    async def forget(self, owner: str, id: str) -> bool:
        """Cancel a detached answer and keep it no longer; False if there is none.

        Raises AnswerElsewhereError if it runs on another server.
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
