"""From a failed turn to the error that a caller may read. Pure."""

from __future__ import annotations

import re

from bridge.core.claude.wire import Wire
from bridge.core.contract import (
    BridgeError,
    InvalidRequestError,
    ModelNotFoundError,
    NotLoggedInError,
    PermissionDeniedError,
    PlanLimitError,
    ProcessFailedError,
    TooLargeError,
    UnavailableError,
    shown,
)


def failure_of(result: Wire, asked: str | None = None) -> BridgeError:
    """The error that a `result` line without an answer stands for; `asked` is the model.

    Only the status decides, and where there is none a few fixed phrases of the CLI: its text
    is not for callers.
    """
    status = result.get("api_error_status")
    text = result.get("result") if isinstance(result.get("result"), str) else ""
    if status is None:
        return _failure_without_status(text or "")
    if status == 400:
        return _bad_request(text or "")
    if status == 401:
        return NotLoggedInError(
            "Claude Code's login is not accepted any more. Whoever runs this server must log in "
            "again: run `claude` and type /login."
        )
    if status == 403:
        return PermissionDeniedError("The Anthropic API refuses this request to this account.")
    if status == 404:
        named = asked not in (None, "", "default")
        missing = f"the model {shown(str(asked))}" if named else "the default model"
        return ModelNotFoundError(
            f"The Anthropic API does not have {missing} for this account. "
            "Take one from the list of models: `bridge models` shows it."
        )
    if status == 413:
        return TooLargeError("The request is larger than the Anthropic API takes.")
    if status == 429:
        return PlanLimitError("The plan's usage limit is reached.")
    return UnavailableError(
        f"The Anthropic API is failing (status {status}). Try again later.",
        reason="OVERLOADED" if status == 529 else None,
    )


_CONTEXT = re.compile(r"prompt is too long|context (window|limit)|input length", re.IGNORECASE)


def _bad_request(text: str) -> BridgeError:
    if _CONTEXT.search(text):
        return context_too_long()
    # The API's words about the request itself: they hold nothing of the server's.
    detail = re.sub(r"^API Error: (400 )?", "", text).strip()
    return InvalidRequestError(
        f"The Anthropic API refused the request: {detail[:500]}"
        if detail
        else "The Anthropic API refused the request.",
        reason="UPSTREAM_REFUSED",
    )


def _failure_without_status(text: str) -> BridgeError:
    if "/login" in text:
        return NotLoggedInError(
            "Claude Code is not logged in. Whoever runs this server must run `claude` and type "
            "/login, or start it with --demo."
        )
    if _CONTEXT.search(text):
        return context_too_long()
    if "API Error" in text:
        return UnavailableError("The Anthropic API cannot be reached. Try again later.")
    return ProcessFailedError("Claude Code ended the turn without an answer.")


def context_too_long() -> InvalidRequestError:
    """The conversation is longer than the model's context window."""
    return InvalidRequestError(
        "The conversation is longer than the model's context window. Send fewer or shorter "
        "messages.",
        field="messages",
        reason="CONTEXT_LENGTH_EXCEEDED",
    )
