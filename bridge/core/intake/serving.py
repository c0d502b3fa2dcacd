"""What an engine, and several behind one service, have in common: how they serve requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from bridge.core.contract import CompletionRequest, DetachedAnswer, Event, OnEnd
from bridge.core.intake.requests import Requests


class ServesRequests:
    """The methods of `Service` that are about requests; see there."""

    _requests: Requests

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; close the generator to cancel it."""
        return self._requests.answers.complete(request)

    async def detach(
        self, request: CompletionRequest, on_end: OnEnd | None = None
    ) -> DetachedAnswer:
        """Start an answer that goes on without its client; returns once it is admitted."""
        return await self._requests.answers.detach(request, on_end)

    async def attach(self, owner: str, id: str) -> DetachedAnswer:
        """Return a detached answer; raises NotFoundError."""
        return await self._requests.answers.attach(owner, id)

    async def cancel(self, owner: str, id: str) -> None:
        """Cancel a running request, detached or not; raises NotFoundError."""
        await self._requests.answers.cancel(owner, id)

    async def forget(self, owner: str, id: str) -> bool:
        """Cancel a detached answer and keep it no longer; False if there is none."""
        return await self._requests.answers.forget(owner, id)

    async def count_tokens(self, request: CompletionRequest) -> int:
        """Estimate the input tokens of a request without answering it; takes a turn of the pool."""
        return await self._requests.count_tokens(request)

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Record a request that a front end could not decode, as far as it is known."""
        self._requests.refused(request, error)

    async def booked(self) -> None:
        """Wait until the cost of all requests so far is known, as far as it will be."""
        await self._requests.booked()
