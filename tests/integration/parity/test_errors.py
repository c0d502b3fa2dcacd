"""Every class of error of the core, as it leaves each API: one literal table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import pytest
from grpc import StatusCode

from bridge.core.contract import errors
from bridge.grpc_server.server import GrpcServer
from bridge.grpc_server.status import DETAILS_KEY
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.support.fakes import HELLO, FakeService
from tests.support.grpc.client import Talk, question
from tests.support.grpc.details import Details, details_in, details_of
from tests.support.http.asgi import ask, build, chat
from tests.support.waiting import soon


@dataclass(frozen=True)
class Row:
    """What a class of error looks like at both APIs."""

    http: int
    type: str
    code: str
    grpc: StatusCode
    reason: str
    retryable: bool = False


EXPECTED: Mapping[str, Row] = {
    "BridgeError": Row(500, "server_error", "internal_error", StatusCode.INTERNAL, "INTERNAL"),
    "InternalError": Row(500, "server_error", "internal_error", StatusCode.INTERNAL, "INTERNAL"),
    "InvalidRequestError": Row(
        400,
        "invalid_request_error",
        "invalid_value",
        StatusCode.INVALID_ARGUMENT,
        "INVALID_VALUE",
    ),
    "UnsupportedError": Row(
        400,
        "invalid_request_error",
        "unsupported_value",
        StatusCode.INVALID_ARGUMENT,
        "UNSUPPORTED_VALUE",
    ),
    "AuthenticationError": Row(
        401,
        "invalid_request_error",
        "invalid_api_key",
        StatusCode.UNAUTHENTICATED,
        "INVALID_API_KEY",
    ),
    "PermissionDeniedError": Row(
        403,
        "permission_error",
        "permission_denied",
        StatusCode.PERMISSION_DENIED,
        "PERMISSION_DENIED",
    ),
    "ModelNotFoundError": Row(
        404,
        "invalid_request_error",
        "model_not_found",
        StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
    ),
    "NotFoundError": Row(
        404, "invalid_request_error", "not_found", StatusCode.NOT_FOUND, "NOT_FOUND"
    ),
    "TooLargeError": Row(
        413,
        "invalid_request_error",
        "request_too_large",
        StatusCode.RESOURCE_EXHAUSTED,
        "REQUEST_TOO_LARGE",
    ),
    "PlanLimitError": Row(
        429,
        "usage_limit_reached",
        "rate_limit_exceeded",
        StatusCode.RESOURCE_EXHAUSTED,
        "PLAN_LIMIT",
    ),
    "RateLimitedError": Row(
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        StatusCode.RESOURCE_EXHAUSTED,
        "RATE_LIMITED",
        retryable=True,
    ),
    "QueueFullError": Row(
        429,
        "rate_limit_error",
        "queue_full",
        StatusCode.RESOURCE_EXHAUSTED,
        "QUEUE_FULL",
        retryable=True,
    ),
    "ClientClosedError": Row(
        499, "invalid_request_error", "client_closed", StatusCode.CANCELLED, "CLIENT_CLOSED"
    ),
    "NotLoggedInError": Row(
        503,
        "server_error",
        "claude_not_logged_in",
        StatusCode.FAILED_PRECONDITION,
        "CLAUDE_NOT_LOGGED_IN",
    ),
    "AccountRefusedError": Row(
        503,
        "server_error",
        "claude_account_refused",
        StatusCode.FAILED_PRECONDITION,
        "CLAUDE_ACCOUNT_REFUSED",
    ),
    "UnavailableError": Row(
        503,
        "server_error",
        "upstream_error",
        StatusCode.UNAVAILABLE,
        "UPSTREAM_ERROR",
        retryable=True,
    ),
    "ProcessFailedError": Row(
        503,
        "server_error",
        "claude_process_error",
        StatusCode.UNAVAILABLE,
        "CLAUDE_PROCESS_ERROR",
        retryable=True,
    ),
    "AnswerTooLargeError": Row(
        413, "server_error", "answer_too_large", StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE"
    ),
    "RequestIdInUseError": Row(
        409,
        "invalid_request_error",
        "request_id_in_use",
        StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_IN_USE",
    ),
    "AnswerElsewhereError": Row(
        409,
        "invalid_request_error",
        "answer_elsewhere",
        StatusCode.FAILED_PRECONDITION,
        "ANSWER_ELSEWHERE",
    ),
    "RequestCancelledError": Row(
        499,
        "invalid_request_error",
        "request_cancelled",
        StatusCode.CANCELLED,
        "REQUEST_CANCELLED",
    ),
    "KeysUnavailableError": Row(
        503,
        "server_error",
        "keys_unavailable",
        StatusCode.UNAVAILABLE,
        "KEYS_UNAVAILABLE",
        retryable=True,
    ),
    "StoreUnavailableError": Row(
        503, "server_error", "store_unavailable", StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"
    ),
    "DrainingError": Row(
        503, "server_error", "draining", StatusCode.UNAVAILABLE, "DRAINING", retryable=True
    ),
    "RequestTimeoutError": Row(
        408,
        "invalid_request_error",
        "request_timeout",
        StatusCode.DEADLINE_EXCEEDED,
        "REQUEST_TIMEOUT",
    ),
    "DeadlineError": Row(
        504, "server_error", "timeout", StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"
    ),
}

CLASSES: Mapping[str, type[errors.BridgeError]] = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.BridgeError)
}
NAMED = (
    "InvalidRequestError",
    "UnsupportedError",
    "ModelNotFoundError",
    "NotFoundError",
    "TooLargeError",
    "AnswerElsewhereError",
)
"""Those that can name a field."""


def made(name: str) -> errors.BridgeError:
    """An error as the core would raise it."""
    cls = CLASSES[name]
    if cls in (errors.InternalError, errors.StoreUnavailableError):
        return cls()
    if cls is errors.AnswerElsewhereError:
        return cls("order-1", "bridge-2", field="model")
    return cls("Words.", field="model") if name in NAMED else cls("Words.")  # type: ignore[call-arg]


async def over_complete(channel: grpc.aio.Channel) -> Details:
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    assert not isinstance(await _first(call), pb.CompleteResponse)
    return await details_of(call)


async def over_converse(channel: grpc.aio.Channel) -> Details:
    talk = await Talk(channel).open()
    await talk.say("Hello?")
    try:
        failed = (await talk.until("turn_failed")).turn_failed
    except grpc.aio.AioRpcError as error:
        # A shutdown ends the call.
        return await details_of(error)
    code = next(code for code in StatusCode if code.value[0] == failed.code)
    trailing = ((DETAILS_KEY, failed.SerializeToString()),)
    details = details_in(code, failed.message, trailing)
    assert details is not None
    return details


async def _first(call: grpc.aio.UnaryStreamCall[pb.CompleteRequest, pb.CompleteResponse]) -> object:
    try:
        return await soon(call.read())
    except grpc.aio.AioRpcError:
        return None


def test_every_class_has_its_row() -> None:
    assert set(EXPECTED) == set(CLASSES)


@pytest.mark.parametrize("name", EXPECTED)
async def test_over_http(name: str) -> None:
    row = EXPECTED[name]
    exchange = await chat(build(FakeService(made(name))))
    assert exchange.status == row.http
    error = exchange.error
    assert (error["type"], error["code"]) == (row.type, row.code)
    assert error["param"] == ("model" if name in NAMED else None)
    assert error["message"].startswith(made(name).message)
    # OpenAI's clients retry these statuses unless they are told not to.
    assert exchange.headers["x-bridge-error"] == row.reason
    retried = row.http >= 500 or row.http in (408, 409, 429)
    told_not_to = exchange.headers.get("x-should-retry") == "false"
    assert (retried and not told_not_to) is row.retryable


PROMPTS: Mapping[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
    "/v1/completions": {"prompt": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
}
"""A request of each API over HTTP."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("url", PROMPTS)
async def test_the_header_for_proxies_is_the_reason_at_every_api_over_http(
    url: str, stream: bool
) -> None:
    body = {"model": "opus", "stream": stream, **PROMPTS[url]}
    for name, row in EXPECTED.items():
        exchange = await ask(build(FakeService(made(name))), "POST", url, body)
        assert exchange.headers["x-bridge-error"] == row.reason, name
    answered = await ask(build(FakeService()), "POST", url, body)
    assert answered.status == 200
    assert "x-bridge-error" not in answered.headers
    # Too late for a header: the error is in the stream.
    late = await ask(build(FakeService(*HELLO[:2], made("DrainingError"))), "POST", url, body)
    assert ("x-bridge-error" in late.headers) is not stream


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "reason"),
    [
        ("GET", "/nowhere", {}, 404, "UNKNOWN_URL"),
        ("PUT", "/v1/models", {}, 405, "METHOD_NOT_SUPPORTED"),
        ("GET", "/v1/responses", {"upgrade": "websocket"}, 426, "HTTP_ERROR"),
        ("POST", "/v1/responses", {"content-encoding": "br"}, 415, "UNSUPPORTED_CONTENT_ENCODING"),
        ("POST", "/v1/responses", {"content-length": "99999999999"}, 413, "REQUEST_TOO_LARGE"),
        ("GET", "/v1/models", {"host": "elsewhere.example"}, 403, "PERMISSION_DENIED"),
        ("GET", "/v1/responses/resp_1?starting_after=-1", {}, 400, "INVALID_VALUE"),
    ],
)
async def test_errors_of_http_itself_have_it_too(
    method: str, path: str, headers: dict[str, str], status: int, reason: str
) -> None:
    body = {"input": "hi"} if method == "POST" else None
    exchange = await ask(build(FakeService()), method, path, body, headers)
    assert (exchange.status, exchange.headers.get("x-bridge-error")) == (status, reason)


@pytest.mark.parametrize("way", [over_complete, over_converse], ids=["Complete", "Converse"])
@pytest.mark.parametrize("name", EXPECTED)
async def test_over_grpc(name: str, way: object) -> None:
    row = EXPECTED[name]
    async with (
        GrpcServer(FakeService(made(name)), port=0) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        details: Details = await way(channel)  # type: ignore[operator]
    assert details.code is row.grpc
    assert details.message == made(name).message
    assert (details.info.reason, details.info.domain) == (row.reason, "claude-code-bridge")
    assert details.info.metadata["retryable"] == str(row.retryable).lower()
    assert details.request_id.startswith("req_")
    assert (details.retry is not None) is row.retryable
    field = "model" if name in NAMED else ""
    assert details.info.metadata["field"] == field
    # BadRequest is what INVALID_ARGUMENT brings, and no other code.
    assert details.fields == ([field] if row.grpc is StatusCode.INVALID_ARGUMENT else [])
