from __future__ import annotations

import pytest

from bridge.http_server.context import HttpSettings, ReasoningDisplay, call_options


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
    name = b"x-bridge-include-reasoning"
    headers = [] if header is None else [(name, header.encode())]
    scope = {"type": "http", "headers": headers, "state": {"request_id": "req_1", "caller": ""}}
    options = call_options(scope, HttpSettings(include_reasoning=setting))
    assert options.reasoning is display
