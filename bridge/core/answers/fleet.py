"""What answers have to do with the other servers of a fleet, and what they do on a single one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bridge.core.answers.claims import Claim
from bridge.core.contract import CompletionRequest


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A request of another server of the fleet."""

    replica: str
    """The name of that server."""
    running: bool
    """Whether its answer has not ended."""


class Fleet(Protocol):
    """The requests of all servers of a fleet, by their ids."""

    async def claim(self, request: CompletionRequest, claim: Claim) -> None:
        """Claim the caller's id of a request for this server.

        Raises RequestIdInUseError or AnswerElsewhereError if another server has it, exactly where
        a claim of this server's own would be refused or would lead to an earlier answer.
        """
        ...

    def changed(self, claim: Claim) -> None:
        """Publish that an answer has begun or ended; without an answer, its id is free."""
        ...

    def started(self, owner: str, request_id: str) -> None:
        """Publish that this server has a detached answer."""
        ...

    def ended(self, owner: str, request_id: str, seconds: float) -> None:
        """Publish that it has ended, and is kept for some more seconds."""
        ...

    async def find(self, owner: str, id: str) -> Elsewhere | None:
        """Find a request of another server, by the server's id or the caller's own.

        Only detached ones and those with an id of the caller's are known. Raises
        StoreUnavailableError if that cannot be found out now.
        """
        ...


class Alone:
    """The fleet of a server that shares nothing."""

    async def claim(self, request: CompletionRequest, claim: Claim) -> None:
        """Nothing else can have the id."""

    def changed(self, claim: Claim) -> None:
        """Nothing is published."""

    def started(self, owner: str, request_id: str) -> None:
        """Nothing is published."""

    def ended(self, owner: str, request_id: str, seconds: float) -> None:
        """Nothing is published."""

    async def find(self, owner: str, id: str) -> Elsewhere | None:
        """There is no other server."""
        return None
