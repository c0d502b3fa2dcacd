"""What a request may say of the storage of its response, which one in the background needs."""

from __future__ import annotations

from enum import Enum, auto

from bridge.core.contract import InvalidRequestError, UnsupportedError
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.wire import Ignored


class Storage(Enum):
    """Whether and when a response is stored."""

    NONE = auto()
    AT_ITS_END = auto()
    FROM_ITS_START = auto()
    """In the background: it goes on without its client."""


def storage_of(wire: ResponsesRequest, ignored: Ignored, *, keeps: bool) -> Storage:
    """Return when to store the response; `keeps` says if this server stores any.

    Raises InvalidRequestError if one in the background could not be had later.
    """
    if wire.store and not keeps:
        ignored.add("store", why="has no effect: storing responses is turned off on this server")
    stored = keeps and wire.store is not False
    if not wire.background:
        return Storage.AT_ITS_END if stored else Storage.NONE
    if wire.store is False:
        raise InvalidRequestError(
            "'background' requires that the response is stored. Omit 'store' or set it to true.",
            field="store",
        )
    if not keeps:
        raise UnsupportedError(
            "'background' requires that responses are stored, and this server stores none. Omit "
            "'background', or start the server with BRIDGE_RESPONSES_DAYS above 0.",
            field="background",
        )
    return Storage.FROM_ITS_START
