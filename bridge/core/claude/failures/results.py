"""Maps a failed turn to the error for the caller. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from bridge.core.claude.failures.kinds import (
    API_ERRORS,
    BAD_CERTIFICATE,
    BAD_URL,
    CLAUDE_CODE_ONLY,
    CONTEXT_TOO_LONG,
    ERRORS,
    EXPIRED_CERTIFICATE,
    LOGIN_REFUSED,
    LONG_CONTEXT,
    NO_CREDIT,
    NOT_LOGGED_IN,
    ORGANIZATION_DISABLED,
    OUT_OF_CREDITS,
    USAGE_LIMIT,
    WRONG_HOST,
    Kind,
)
from bridge.core.claude.wire import Wire
from bridge.core.contract import (
    BridgeError,
    InvalidRequestError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProcessFailedError,
    TooLargeError,
    UnavailableError,
    shown,
)

# Failures without a kind: the API's own sentences, at the start of the CLI's text.
_NAMELESS: Mapping[int, tuple[tuple[re.Pattern[str], Kind], ...]] = MappingProxyType(
    {
        status: tuple((re.compile(words, re.IGNORECASE), kind) for words, kind in rows)
        for status, rows in (
            (
                400,
                (
                    (r"^this organization has been disabled", ORGANIZATION_DISABLED),
                    (r"^you're out of extra usage", OUT_OF_CREDITS),
                    (r"^this credential is only authorized for use with", CLAUDE_CODE_ONLY),
                    (r"^your credit balance is too low|^credit balance is too low", NO_CREDIT),
                ),
            ),
            (403, ((r"oauth token (has been )?revoked", LOGIN_REFUSED),)),
            (
                429,
                (
                    (r"(extra usage is|usage credits are) required for long", LONG_CONTEXT),
                    (r"(extra usage is|usage credits are) required", OUT_OF_CREDITS),
                ),
            ),
        )
    }
)
_LOCAL = tuple(
    (re.compile(words, re.IGNORECASE), kind)
    for words, kind in (
        (r"certificate hostname mismatch", WRONG_HOST),
        (r"certificate has expired|certificate.*(CERT_HAS_EXPIRED|expired)", EXPIRED_CERTIFICATE),
        (r"certificate|\bSSL\b|\bTLS\b", BAD_CERTIFICATE),
        (r"^invalid url", BAD_URL),
    )
)
"""The CLI's messages about the connection to the API that have no kind."""
_HEAD = re.compile(r"^(failed to authenticate\. )?(api error: )?(\d{3} )?", re.IGNORECASE)


def failure_of(result: Wire, asked: str | None = None, error: str | None = None) -> BridgeError:
    """Return the error of a `result` line without an answer; `asked` is the model.

    `error` is the kind on the CLI's synthetic answer. Kinds decide first, then the status; if the
    API sends neither, a few of its fixed sentences. The CLI's text is not meant for callers.
    """
    status = result.get("api_error_status")
    text = result.get("result") if isinstance(result.get("result"), str) else ""
    kind = _kind_of(result, status, text or "", error)
    return kind.as_error() if kind is not None else _by_status(status, text or "", asked)


def _kind_of(result: Wire, status: object, text: str, error: str | None) -> Kind | None:
    named = API_ERRORS.get(str(result.get("api_error")))
    if named is not None:
        return named
    said = _HEAD.sub("", text, count=1)
    for words, kind in _NAMELESS.get(status, ()) if isinstance(status, int) else ():
        if words.search(said):
            return kind
    if status is None and "API Error" in text:
        local = next((kind for words, kind in _LOCAL if words.search(said)), None)
        if local is not None:
            return local
    if error == "authentication_failed":
        if status == 403:
            # The CLI reports this for any 403, even if the login is valid.
            return None
        return NOT_LOGGED_IN if status is None and "Not logged in" in text else LOGIN_REFUSED
    return ERRORS.get(str(error))


def _by_status(status: object, text: str, asked: str | None) -> BridgeError:
    match status:
        case None:
            return _failure_without_status(text)
        case 400:
            return _bad_request(text)
        case 401:
            return LOGIN_REFUSED.as_error()
        case 402:
            return NO_CREDIT.as_error()
        case 403:
            return PermissionDeniedError("The Anthropic API refuses this request for this account.")
        case 404:
            named = asked not in (None, "", "default")
            missing = f"the model {shown(str(asked))}" if named else "the default model"
            return ModelNotFoundError(
                f"The Anthropic API does not offer {missing} to this account. "
                "Choose one from the list of models: `bridge models` shows it.",
                model=asked or "",
            )
        case 413:
            return TooLargeError("The request is larger than the Anthropic API accepts.")
        case 429:
            return USAGE_LIMIT.as_error()
        case _:
            return unavailable(status)


def unavailable(status: object, retry_after: float | None = None) -> UnavailableError:
    """Return the error for a status that is the API's own fault."""
    return UnavailableError(
        f"The Anthropic API is failing (status {status}). Try again later.",
        reason="OVERLOADED" if status == 529 else None,
        retry_after=retry_after,
    )


_CONTEXT = re.compile(r"prompt is too long|context (window|limit)|input length", re.IGNORECASE)


def _bad_request(text: str) -> BridgeError:
    if _CONTEXT.search(text):
        return CONTEXT_TOO_LONG.as_error()
    # The API's words about the request itself contain nothing about the server.
    detail = re.sub(r"^API Error: (400 )?", "", text).strip()
    return InvalidRequestError(
        f"The Anthropic API refused the request: {detail[:500]}"
        if detail
        else "The Anthropic API refused the request.",
        reason="UPSTREAM_REFUSED",
    )


def _failure_without_status(text: str) -> BridgeError:
    if "/login" in text:
        return NOT_LOGGED_IN.as_error()
    if _CONTEXT.search(text):
        return CONTEXT_TOO_LONG.as_error()
    if "API Error" in text:
        return UnavailableError("The Anthropic API cannot be reached. Try again later.")
    return ProcessFailedError("Claude Code ended the turn without an answer.")
