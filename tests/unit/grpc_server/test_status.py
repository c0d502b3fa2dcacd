"""Errors as gRPC status."""

from __future__ import annotations

import inspect

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from bridge.core.contract import errors
from bridge.grpc_server.status import CODES, DETAILS_KEY, CallStatus, OutOfOrderError, status_of

ERROR_CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.BridgeError)
]


def details_of(status: CallStatus) -> list[Message]:
    wire = dict(status.trailing_metadata)[DETAILS_KEY]
    assert isinstance(wire, bytes)
    rich = status_pb2.Status.FromString(wire)
    assert rich.code == status.code.value[0]
    assert rich.message == status.details
    kinds = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.QuotaFailure,
        error_details_pb2.RequestInfo,
        error_details_pb2.ResourceInfo,
        error_details_pb2.RetryInfo,
    )
    found: list[Message] = []
    for packed in rich.details:
        kind = next(kind for kind in kinds if packed.Is(kind.DESCRIPTOR))
        detail = kind()
        packed.Unpack(detail)
        found.append(detail)
    return found


def test_every_error_of_the_core_has_its_row_and_nothing_else_has() -> None:
    # The order of messages on a call is a matter of gRPC alone.
    assert set(CODES) - {OutOfOrderError} == set(ERROR_CLASSES)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidRequestError("x"), StatusCode.INVALID_ARGUMENT),
        (errors.UnsupportedError("x"), StatusCode.INVALID_ARGUMENT),
        (errors.AuthenticationError("x"), StatusCode.UNAUTHENTICATED),
        (errors.PermissionDeniedError("x"), StatusCode.PERMISSION_DENIED),
        (errors.ModelNotFoundError("x"), StatusCode.NOT_FOUND),
        (errors.NotFoundError("x"), StatusCode.NOT_FOUND),
        (errors.TooLargeError("x"), StatusCode.RESOURCE_EXHAUSTED),
        (errors.PlanLimitError("x"), StatusCode.RESOURCE_EXHAUSTED),
        (errors.QueueFullError("x"), StatusCode.RESOURCE_EXHAUSTED),
        (errors.ClientClosedError("x"), StatusCode.CANCELLED),
        (errors.NotLoggedInError("x"), StatusCode.FAILED_PRECONDITION),
        (errors.UnavailableError("x"), StatusCode.UNAVAILABLE),
        (errors.ProcessFailedError("x"), StatusCode.UNAVAILABLE),
        (errors.KeysUnavailableError("why"), StatusCode.UNAVAILABLE),
        (errors.StoreUnavailableError(), StatusCode.UNAVAILABLE),
        (errors.DrainingError("x"), StatusCode.UNAVAILABLE),
        (errors.DeadlineError("x"), StatusCode.DEADLINE_EXCEEDED),
        (errors.InternalError(), StatusCode.INTERNAL),
        (errors.BridgeError("x"), StatusCode.INTERNAL),
    ],
)
def test_code_and_error_info(error: errors.BridgeError, code: StatusCode) -> None:
    status = status_of(error, "req_1")
    assert status.code is code
    assert status.details == error.message
    info, request = details_of(status)[:2]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.reason == error.reason
    assert info.domain == "claude-code-bridge"
    assert request == error_details_pb2.RequestInfo(request_id="req_1")
    assert dict(status.trailing_metadata)["x-request-id"] == "req_1"


def test_a_subclass_without_a_row_takes_its_parents() -> None:
    class Special(errors.ProcessFailedError):
        pass

    assert status_of(Special("x"), "req_1").code is StatusCode.UNAVAILABLE


def test_a_bad_field_is_named() -> None:
    status = status_of(errors.InvalidRequestError("No.", field="messages[0].role"), "req_1")
    info, _, bad = details_of(status)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.metadata["field"] == "messages[0].role"
    assert isinstance(bad, error_details_pb2.BadRequest)
    (violation,) = bad.field_violations
    assert violation.field == "messages[0].role"
    assert violation.description == "No."


def test_every_bad_field_is_named() -> None:
    error = errors.InvalidRequestError("No.", field="sampling.top_p")
    error.others = (errors.UnsupportedError("Nor this.", field="tools[0].name"),)
    bad = details_of(status_of(error, "req_1"))[-1]
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert [(each.field, each.description, each.reason) for each in bad.field_violations] == [
        ("sampling.top_p", "No.", "INVALID_VALUE"),
        ("tools[0].name", "Nor this.", "UNSUPPORTED_VALUE"),
    ]


def test_a_known_delay_is_in_header_and_details() -> None:
    status = status_of(errors.QueueFullError("x", retry_after=1.5), "req_1")
    retry = details_of(status)[-1]
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert dict(status.trailing_metadata)["grpc-retry-pushback-ms"] == "1500"


def test_what_may_be_retried_always_has_a_delay() -> None:
    assert any(
        isinstance(detail, error_details_pb2.RetryInfo)
        for detail in details_of(status_of(errors.UnavailableError("x"), "req_1"))
    )


@pytest.mark.parametrize(
    ("error", "subject"),
    [
        (errors.PlanLimitError("x"), "account"),
        (errors.RateLimitedError("x"), "account"),
        (errors.RateLimitedError("x", reason="KEY_TOKENS_PER_DAY"), "key"),
        (errors.QueueFullError("x"), "server"),
    ],
)
def test_the_quota_that_is_exhausted_is_named(error: errors.BridgeError, subject: str) -> None:
    quota = details_of(status_of(error, "req_1"))[2]
    assert quota == error_details_pb2.QuotaFailure(
        violations=[
            error_details_pb2.QuotaFailure.Violation(
                subject=subject, description="x", quota_id=error.reason
            )
        ]
    )


def test_a_model_that_does_not_exist_is_named() -> None:
    resource = details_of(status_of(errors.ModelNotFoundError("x", model="gpt"), "req_1"))[2]
    assert resource == error_details_pb2.ResourceInfo(
        resource_type="bridge.v1.Model", resource_name="gpt", description="x"
    )


def test_an_answer_that_does_not_exist_is_named() -> None:
    error = errors.NotFoundError("x", field="request_id", id="req_2")
    assert details_of(status_of(error, "req_1"))[2] == error_details_pb2.ResourceInfo(
        resource_type="bridge.v1.Completion", resource_name="req_2", description="x"
    )


def test_a_usage_limit_has_its_reset_time_but_is_not_retried_by_policy() -> None:
    status = status_of(errors.PlanLimitError("x", retry_after=3600), "req_1")
    retry = details_of(status)[-1]
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == 3600
    assert dict(status.trailing_metadata)["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.parametrize("letter", ["a", "é", "中", "😀", "\ud83d"])
def test_a_long_message_still_fits_into_the_trailers(letter: str) -> None:
    error = errors.InvalidRequestError(letter * 5000, field="system")
    error.others = (errors.InvalidRequestError(letter * 500, field="tools"),) * 19
    status = status_of(error, "req_1")
    wire = sum(len(value) for _, value in status.trailing_metadata)
    assert wire + 3 * len(status.details.encode()) < 8192
