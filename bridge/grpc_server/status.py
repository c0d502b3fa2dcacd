"""The core's errors as gRPC status: one literal table, and the google.rpc details."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from bridge.core import contract
from bridge.grpc_server.call_context import ERROR_KEY, REQUEST_ID_KEY

DOMAIN: Final = "claude-code-bridge"
"""google.rpc.ErrorInfo.domain of every error that the bridge itself reports."""

DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
FOUND_ON_KEY: Final = "x-bridge-found-on"
"""The server of the fleet that has an answer which this one has not."""


class OutOfOrderError(contract.InvalidRequestError):
    """A message of a conversation that may not come now; `reason` says what is awaited."""


CODES: Final[dict[type[contract.BridgeError], StatusCode]] = {
    contract.BridgeError: StatusCode.INTERNAL,
    contract.InvalidRequestError: StatusCode.INVALID_ARGUMENT,
    OutOfOrderError: StatusCode.FAILED_PRECONDITION,
    contract.UnsupportedError: StatusCode.INVALID_ARGUMENT,
    contract.AuthenticationError: StatusCode.UNAUTHENTICATED,
    contract.PermissionDeniedError: StatusCode.PERMISSION_DENIED,
    contract.ModelNotFoundError: StatusCode.NOT_FOUND,
    contract.NotFoundError: StatusCode.NOT_FOUND,
    contract.TooLargeError: StatusCode.RESOURCE_EXHAUSTED,
    contract.AnswerTooLargeError: StatusCode.RESOURCE_EXHAUSTED,
    contract.RequestIdInUseError: StatusCode.ALREADY_EXISTS,
    contract.AnswerElsewhereError: StatusCode.FAILED_PRECONDITION,
    contract.RequestCancelledError: StatusCode.CANCELLED,
    contract.PlanLimitError: StatusCode.RESOURCE_EXHAUSTED,
    contract.RateLimitedError: StatusCode.RESOURCE_EXHAUSTED,
    contract.QueueFullError: StatusCode.RESOURCE_EXHAUSTED,
    contract.ClientClosedError: StatusCode.CANCELLED,
    contract.NotLoggedInError: StatusCode.FAILED_PRECONDITION,
    contract.AccountRefusedError: StatusCode.FAILED_PRECONDITION,
    contract.UnavailableError: StatusCode.UNAVAILABLE,
    contract.ProcessFailedError: StatusCode.UNAVAILABLE,
    contract.KeysUnavailableError: StatusCode.UNAVAILABLE,
    contract.StoreUnavailableError: StatusCode.UNAVAILABLE,
    contract.DrainingError: StatusCode.UNAVAILABLE,
    contract.RequestTimeoutError: StatusCode.DEADLINE_EXCEEDED,
    contract.DeadlineError: StatusCode.DEADLINE_EXCEEDED,
    contract.InternalError: StatusCode.INTERNAL,
}

_MODEL: Final = "bridge.v1.Model"
"""google.rpc.ResourceInfo.resource_type of a model."""
_COMPLETION: Final = "bridge.v1.Completion"
"""The same of an answer, by the id of its request."""

_MAX_MESSAGE_BYTES: Final = 800
_MAX_OTHERS_BYTES: Final = 2_000
"""Of all field violations but the first: clients refuse trailers of more than 8 KB."""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a failed call ends: the arguments of `context.abort`."""

    code: StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def status_of(error: contract.BridgeError, request_id: str) -> CallStatus:
    """Return the gRPC status of an error, with the request id."""
    status = rich_status(error, request_id)
    code = _code_of(error)
    retry_after = error.retry_hint
    metadata: list[tuple[str, str | bytes]] = [
        (DETAILS_KEY, status.SerializeToString()),
        (REQUEST_ID_KEY, request_id),
        (ERROR_KEY, error.reason),
    ]
    if isinstance(error, contract.AnswerElsewhereError):
        metadata.append((FOUND_ON_KEY, error.replica))
    if not error.retryable:
        # A client's retry policy for the code must not retry this error.
        metadata.append((PUSHBACK_KEY, "-1"))
    elif retry_after is not None:
        metadata.append((PUSHBACK_KEY, str(round(retry_after * 1000))))
    return CallStatus(code, status.message, tuple(metadata))


def rich_status(error: contract.BridgeError, request_id: str) -> status_pb2.Status:
    """Return an error with its google.rpc details."""
    message = _trailer_text(error.message)
    details = [_error_info(error), _packed(error_details_pb2.RequestInfo(request_id=request_id))]
    code = _code_of(error)
    if code is StatusCode.INVALID_ARGUMENT and _field_of(error):
        assert isinstance(error, contract.InvalidRequestError)
        details.append(_bad_request(error, message))
    if subject := _quota_of(error):
        details.append(_quota_failure(error, subject, message))
    if isinstance(error, contract.ModelNotFoundError) and error.model:
        details.append(_resource_info(_MODEL, error.model, message))
    if isinstance(error, contract.NotFoundError | contract.AnswerElsewhereError) and error.id:
        details.append(_resource_info(_COMPLETION, error.id, message))
    if error.retry_hint is not None:
        details.append(_retry_info(error.retry_hint))
    return status_pb2.Status(code=code.value[0], message=message, details=details)


def _code_of(error: contract.BridgeError) -> StatusCode:
    return next(CODES[cls] for cls in type(error).__mro__ if cls in CODES)


def _field_of(error: contract.BridgeError) -> str:
    return getattr(error, "field", None) or ""


def _error_info(error: contract.BridgeError) -> any_pb2.Any:
    metadata = {"retryable": "true" if error.retryable else "false"}
    if field := _field_of(error):
        metadata["field"] = field
    if isinstance(error, contract.AnswerElsewhereError):
        metadata["replica"] = error.replica
    if isinstance(error, contract.PlanLimitError) and error.resets_at is not None:
        metadata["resets_at"] = str(round(error.resets_at))
    return _packed(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    )


def _bad_request(error: contract.InvalidRequestError, message: str) -> any_pb2.Any:
    violations = [_violation(error, message)]
    room = _MAX_OTHERS_BYTES
    for other in error.others:
        violation = _violation(other, _trailer_text(other.message))
        room -= violation.ByteSize()
        if room < 0:
            break
        violations.append(violation)
    return _packed(error_details_pb2.BadRequest(field_violations=violations))


def _violation(
    error: contract.InvalidRequestError, description: str
) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field=_field_of(error), description=description, reason=error.reason
    )


def _quota_of(error: contract.BridgeError) -> str:
    """Whose quota is exhausted; empty if none is."""
    match error:
        case contract.PlanLimitError():
            return "account"
        case contract.RateLimitedError():
            upstream = error.reason == contract.RateLimitedError.reason
            return "account" if upstream else "key"
        case contract.QueueFullError():
            return "server"
    return ""


def _quota_failure(error: contract.BridgeError, subject: str, message: str) -> any_pb2.Any:
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=subject, description=message, quota_id=error.reason
    )
    return _packed(error_details_pb2.QuotaFailure(violations=[violation]))


def _resource_info(kind: str, name: str, message: str) -> any_pb2.Any:
    return _packed(
        error_details_pb2.ResourceInfo(
            resource_type=kind, resource_name=_trailer_text(name), description=message
        )
    )


def _retry_info(seconds: float) -> any_pb2.Any:
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(round(seconds * 1000))
    return _packed(error_details_pb2.RetryInfo(retry_delay=delay))


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _trailer_text(text: str) -> str:
    """Shorten a message: clients refuse trailers of more than 8 KB, and it is in them twice.

    Lone surrogates, which cannot be encoded, are replaced.
    """
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= _MAX_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[:_MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "…"
