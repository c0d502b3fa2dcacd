"""Where responses are stored: one interface, whichever store is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

JsonDict: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response with what it was made from, as JSON in the API's own words."""

    id: str
    parent: str | None
    """The response that it builds on."""
    input: Sequence[JsonDict]
    """Its own items, without those of its past."""
    reply: JsonDict
    """The response object; its `output` holds the items of the answer."""


class ResponseStore(Protocol):
    """Stores responses. What belongs to one owner does not exist for another.

    What reads raises StoreUnavailableError where the store cannot be reached; a response that
    cannot be stored costs its storage, never the answer.
    """

    async def put(self, owner: str, response: StoredResponse) -> bool:
        """Store a response; False where that was not possible."""
        ...

    async def get(self, owner: str, id: str) -> StoredResponse | None:
        """Return a response, or None if there is none."""
        ...

    async def history(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the input and output of a response and all it builds on, oldest first.

        None if any of it is missing. Raises TooLargeError (field `history`) beyond `max_bytes`.
        """
        ...

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a response, for good; False if there was none."""
        ...

    async def expire(self) -> None:
        """Delete what is older than it may be."""
        ...

    async def aclose(self) -> None:
        """Close the store, after all that was asked for."""
        ...
