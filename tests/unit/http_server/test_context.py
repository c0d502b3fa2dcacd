"""The parameters of a request outside its body."""

from __future__ import annotations

import pytest

from bridge.core.contract.request import CompletionRequest, Place
from bridge.http_server.context import CallOptions, HttpSettings, ReasoningDisplay, call_options


def options_of(
    headers: dict[str, str],
    settings: HttpSettings = HttpSettings(),  # noqa: B008 - frozen
) -> CallOptions:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    state = {"request_id": "req_1", "caller": "key", "owner": "key:1"}
    return call_options({"type": "http", "headers": raw, "state": state}, settings)


@pytest.mark.parametrize(
    ("header", "setting", "display"),
    [
        (None, False, ReasoningDisplay.OMIT),
        (None, True, ReasoningDisplay.CHAT_DEFAULT),
        ("true", False, ReasoningDisplay.ASKED),
        ("true", True, ReasoningDisplay.ASKED),
        ("false", True, ReasoningDisplay.OMIT),
    ],
)
def test_the_header_decides_about_thinking_and_else_the_setting(
    header: str | None, setting: bool, display: ReasoningDisplay
) -> None:
    headers = {} if header is None else {"x-bridge-include-reasoning": header}
    options = options_of(headers, HttpSettings(include_reasoning=setting))
    assert options.reasoning is display


def test_the_id_of_the_caller_reaches_the_core_with_the_owner_and_its_name_in_errors() -> None:
    asked = options_of({"idempotency-key": "order-1"}).applied_to(CompletionRequest(()))
    assert (asked.client_request_id, asked.owner, asked.caller) == ("order-1", "key:1", "key")
    assert asked.field_names(Place("client_request_id")) == "Idempotency-Key"
    assert asked.field_names(Place("model")) == "model"


def test_an_id_that_a_client_makes_by_itself_for_its_retries_is_none() -> None:
    made = "stainless-python-retry-3e7f7c6a-9f3e-4a0e-8d0c-2f1d0c5e7a11"
    assert options_of({"idempotency-key": made}).client_request_id == ""
    assert options_of({}).client_request_id == ""
