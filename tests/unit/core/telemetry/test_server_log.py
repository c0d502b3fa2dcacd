from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace

import pytest

from bridge.core.contract.events import Finished, FinishReason, Started, TextDelta
from bridge.core.contract.request import CompletionRequest, Message, Role, TextPart
from bridge.core.contract.states import (
    Health,
    HealthStatus,
    PoolState,
    SessionSource,
    Totals,
    UsageLimits,
)
from bridge.core.contract.usage import Usage
from bridge.core.telemetry.request_record import RequestRecord
from bridge.core.telemetry.server_log import HealthLog, JsonFormatter, ServerLog, TextFormatter

REQUEST = CompletionRequest(
    (Message(Role.USER, (TextPart("secret question"),)),),
    model="opus",
    system="secret system",
    request_id="req_1",
    caller="team",
    api="grpc",
)


def ended(request: CompletionRequest = REQUEST, error: str = "") -> RequestRecord:
    record = RequestRecord(request, 10.0, bodies=True, started_on=1_800_000_000.0)
    record.leased(SessionSource.WARM, 10.05)
    if not error:
        record.see(Started("claude-opus-9"), 10.5)
        record.see(TextDelta("secret answer"), 10.5)
        record.see(Finished(FinishReason.STOP, Usage(1, 2, 3, 4)), 12.0)
    record.error = error
    record.ended(12.0, 1_800_000_002.0)
    return record


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "bridge")
    return caplog


def test_a_request_is_one_line_at_info_without_a_word_of_it(
    log: pytest.LogCaptureFixture,
) -> None:
    ServerLog().booked(ended())
    (record,) = log.records
    line = TextFormatter().format(record)
    assert record.levelno == logging.INFO
    assert line.endswith(
        "INFO bridge.requests: request_id=req_1 api=grpc key=team model_asked=opus "
        "model=claude-opus-9 session=warm queue_ms=50 first_token_ms=500 total_ms=2000 "
        "finish=stop input_tokens=1 cache_read_tokens=2 cache_write_tokens=3 output_tokens=4 "
        "cost_usd=0.0 payer=default"
    )
    parsed = json.loads(JsonFormatter().format(record))
    assert (parsed["level"], parsed["logger"]) == ("info", "bridge.requests")
    assert (parsed["request_id"], parsed["total_ms"]) == ("req_1", 2000)
    assert "secret" not in line + str(parsed)


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        ("UPSTREAM_ERROR", "WARNING"),
        ("CLAUDE_NOT_LOGGED_IN", "WARNING"),
        ("CLAUDE_ACCOUNT_REFUSED", "WARNING"),
        ("CLAUDE_MISCONFIGURED", "WARNING"),
        ("PLAN_LIMIT", "WARNING"),
        ("INSUFFICIENT_QUOTA", "WARNING"),
        ("USAGE_CREDITS_REQUIRED", "WARNING"),
        ("INTERNAL", "WARNING"),
        ("INVALID_VALUE", "INFO"),
        ("CLIENT_CLOSED", "INFO"),
    ],
)
def test_an_error_that_is_not_the_callers_is_a_warning(
    log: pytest.LogCaptureFixture, reason: str, level: str
) -> None:
    ServerLog().booked(ended(error=reason))
    (record,) = log.records
    assert record.levelname == level
    assert f" error={reason}" in record.getMessage()


def test_a_callers_name_makes_no_line_of_its_own(log: pytest.LogCaptureFixture) -> None:
    evil = "x\n2030-01-01 INFO bridge.requests: request_id=forged \x1b[31m"
    ServerLog().booked(ended(replace(REQUEST, model=evil, request_id="a b\r\n\u2028c")))
    (record,) = log.records
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record)
        assert line.isprintable()
        assert len(line.splitlines()) == 1
        assert line.isascii()


def test_no_line_steers_a_terminal(log: pytest.LogCaptureFixture) -> None:
    HealthLog().look(state("unavailable", "proxy said \x1b[2J\x9b31m\r\x7f"))
    (record,) = log.records
    line = TextFormatter().format(record)
    assert line.endswith(r"unavailable (was starting): proxy said \x1b[2J\x9b31m\x0d\x7f")


def state(status: str, detail: str = "", plan: UsageLimits | None = None) -> PoolState:
    health = Health(
        HealthStatus(status), logged_in=True, account="x", cli_version="1", detail=detail
    )
    return PoolState(health, 1, Totals(), plan)


def test_each_change_of_health_is_a_warning_with_its_detail(
    log: pytest.LogCaptureFixture,
) -> None:
    health = HealthLog()
    told = (
        state("starting"),
        state("ok"),
        state("ok"),
        state("not_logged_in", "Run claude."),
        state("not_logged_in", "Run claude."),
        state("ok"),
        state("draining", "The server is shutting down."),
    )
    for each in told:
        health.look(each)
    assert [(record.levelname, record.getMessage()) for record in log.records] == [
        ("INFO", "ok (was starting)"),
        ("WARNING", "not_logged_in (was ok): Run claude."),
        ("WARNING", "ok (was not_logged_in)"),
        ("INFO", "draining (was ok): The server is shutting down."),
    ]
    parsed = json.loads(JsonFormatter().format(log.records[1]))
    assert (parsed["health"], parsed["detail"]) == ("not_logged_in", "Run claude.")


def test_a_usage_limit_that_is_reached_and_lifted_is_a_warning_each(
    log: pytest.LogCaptureFixture,
) -> None:
    health = HealthLog()
    allowed = UsageLimits("allowed", limit="five_hour")
    reached = UsageLimits("rejected", 1_800_000_000.0, "five_hour")
    for plan in (None, allowed, allowed, reached, replace(reached, said_at=5.0), allowed):
        health.look(state("starting", plan=plan))
    assert [(record.levelname, record.getMessage()) for record in log.records] == [
        (
            "WARNING",
            "usage limits: usage_limit=five_hour usage_status=rejected extra_usage=False "
            "resets_at=2027-01-15T08:00:00Z",
        ),
        ("WARNING", "usage limits: usage_limit=five_hour usage_status=allowed extra_usage=False"),
    ]


def test_an_errors_text_is_in_neither_format() -> None:
    try:
        raise ValueError("secret")
    except ValueError:
        record = logging.LogRecord("bridge", 40, "f", 1, "it failed", (), sys.exc_info())
    text, line = TextFormatter().format(record), json.loads(JsonFormatter().format(record))
    assert "ValueError" in text
    assert "ValueError" in line["trace"]
    assert "secret" not in text + str(line)
