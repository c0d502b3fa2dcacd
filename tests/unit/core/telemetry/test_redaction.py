from __future__ import annotations

import asyncio
import logging

import pytest

from bridge.core.contract import QueueFullError
from bridge.core.telemetry.redaction import PrivateFormatter, kind_of, on_loop_error, trace_of

SECRET = "secret words"


class ForLogError(Exception):
    for_log = "written by the bridge"


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - it is what is asked for
        return caught


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(SECRET), "ValueError"),
        (QueueFullError(SECRET), "QueueFullError (QUEUE_FULL)"),
        (FileNotFoundError(2, "No such file", SECRET), "FileNotFoundError: No such file"),
        (ForLogError(SECRET), "ForLogError: written by the bridge"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_in_one_line_is_its_kind(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_a_trace_has_the_causes_and_the_places_and_no_text() -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(SECRET) from error
    except ValueError as error:
        trace = trace_of(error)
    assert trace.index("ValueError") < trace.index("caused by KeyError")
    assert f"{__file__}:" in trace
    assert "in test_a_trace_has_the_causes_and_the_places_and_no_text" in trace
    assert SECRET not in trace


def test_a_cause_that_is_suppressed_is_left_out() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011, PT012 - it is raised on purpose
        try:
            raise KeyError
        except KeyError:
            raise ValueError from None
    assert "KeyError" not in trace_of(caught.value)


def test_a_group_shows_each_of_its_errors() -> None:
    group = ExceptionGroup(SECRET, [ValueError(SECRET), KeyError(SECRET)])
    trace = trace_of(raised(group))
    assert "ValueError" in trace
    assert "KeyError" in trace
    assert SECRET not in trace


def test_errors_that_cause_each_other_end() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert trace_of(one).count("raised at") == 2


def test_a_record_is_formatted_without_what_another_formatter_left_in_it() -> None:
    error = raised(ValueError(SECRET))
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "It failed.", (), info)
    assert SECRET in logging.Formatter().format(record)
    text = PrivateFormatter().format(record)
    assert text.startswith("It failed.\nValueError, raised at")
    assert SECRET not in text


async def test_the_loops_own_errors_are_logged_alike(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    on_loop_error(loop, {"message": f"Task failed\n{SECRET}", "exception": ValueError(SECRET)})
    on_loop_error(loop, {"message": "no error"})
    assert "Task failed\nValueError" in caplog.text
    assert "no error" in caplog.text
    assert SECRET not in caplog.text
