"""The ids of responses, which differ from those of their requests by the prefix only."""

from __future__ import annotations

from bridge.core.contract import AnswerElsewhereError


def hex_of(id: str) -> str:
    """Return what the ids of a response and of its request have in common."""
    return id.removeprefix("resp_").removeprefix("req_")


def response_id(id: str) -> str:
    """Return the id of a response that a request or the response itself has."""
    return f"resp_{hex_of(id)}"


def elsewhere(id: str, error: AnswerElsewhereError) -> AnswerElsewhereError:
    """Return the error as the client knows the response."""
    return AnswerElsewhereError(response_id(id), error.replica, field="response_id")
