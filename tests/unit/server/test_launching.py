from __future__ import annotations

import math
from pathlib import Path

import pytest

from bridge.core.engine.timeouts import TimeLimits
from bridge.server.launching import check_base_url, time_limits
from bridge.server.start_error import StartError
from tests.support.harness import settings_for_tests


def test_claude_timeout_is_the_default_of_the_limits_on_waiting() -> None:
    limits = time_limits(settings_for_tests(Path("unused"), claude_timeout=30))
    assert limits == TimeLimits(total=3600, queue=math.inf, first_token=30, idle=30)


def test_each_limit_can_be_set_by_itself() -> None:
    limits = time_limits(
        settings_for_tests(
            Path("unused"),
            bridge_answer_timeout=1,
            bridge_queue_timeout=2,
            bridge_first_token_timeout=3,
            bridge_idle_timeout=4,
        )
    )
    assert limits == TimeLimits(total=1, queue=2, first_token=3, idle=4)


def test_zero_means_no_limit() -> None:
    limits = time_limits(
        settings_for_tests(
            Path("unused"),
            bridge_answer_timeout=0,
            bridge_first_token_timeout=0,
            bridge_idle_timeout=0,
        )
    )
    assert limits == TimeLimits()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "http://localhost:8000/v1",
        "http://[::1]:8000",
        "http://bridge.example:8000",
    ],
)
def test_the_servers_own_address_is_refused(url: str) -> None:
    with pytest.raises(StartError, match="ANTHROPIC_BASE_URL"):
        check_base_url(url, "bridge.example", 8000)


@pytest.mark.parametrize(
    "url",
    ["", "https://api.anthropic.com", "http://127.0.0.1:9000", "http://127.0.0.1:x", "nonsense"],
)
def test_any_other_address_is_fine(url: str) -> None:
    check_base_url(url, "127.0.0.1", 8000)
