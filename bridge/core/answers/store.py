"""The interface of response stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

JsonDict: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and the input it was made from, as JSON in the API's own format."""

    id: str
    parent: str | None
    """The response that it builds on."""
    input: Sequence[JsonDict]
    """Its own items, without its history."""
    reply: JsonDict
    """The response object; its `output` has the items of the answer."""


class ResponseStore(Protocol):
    """Stores responses. The responses of one owner do not exist for another.

    Reading methods raise StoreUnavailableError if the store cannot be reached; if a response cannot
    be stored, the answer is still sent.
    """

    async def put(self, owner: str, response: StoredResponse) -> bool:
        """Store a response; False if that was not possible."""
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
        """Delete a response for good; False if it did not exist."""
        ...

    async def expire(self) -> None:
        """Delete expired responses."""
        ...

    async def aclose(self) -> None:
        """Close the store after all pending operations."""
        ...
