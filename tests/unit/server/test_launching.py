from __future__ import annotations

import math
from pathlib import Path

from bridge.core.engine.timeouts import TimeLimits
from bridge.server.launching import time_limits
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
