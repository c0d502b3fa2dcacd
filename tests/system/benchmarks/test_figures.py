"""The arithmetic of the benchmark, and its report."""

from __future__ import annotations

import math

import pytest

from benchmarks.figures import Spread, gaps, median, quantile, ratios, spread
from benchmarks.machine import Machine
from benchmarks.processes import seconds
from benchmarks.record import SDK, Line, Samples, Target, not_supported
from benchmarks.report import Outcome, Report
from benchmarks.subjects.base import Request, sse_events

MACHINE = Machine(2, "a CPU", 8.0, 0.5, "Linux", {"bridge": "1"})


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0], 0.5, 3.0),
        ([1.0, 3.0], 0.5, 2.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([3.0, 1.0, 2.0], 0.0, 1.0),
        ([3.0, 1.0, 2.0], 1.0, 3.0),
        ([0.0, 10.0], 0.95, 9.5),
    ],
)
def test_a_quantile_is_interpolated(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == pytest.approx(expected)


def test_of_no_values_there_is_no_median() -> None:
    assert math.isnan(median([]))


def test_a_spread_has_the_quartiles() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0)


def test_ratios_go_round_by_round_and_leave_out_what_has_none() -> None:
    assert ratios([2.0, 9.0, 5.0, 1.0], [1.0, 3.0, 0.0]) == [2.0, 3.0]


def test_gaps_are_between_neighbours() -> None:
    assert gaps([1.0, 1.5, 3.0]) == [0.5, 1.5]
    assert gaps([1.0]) == []


@pytest.mark.parametrize(
    ("clock", "expected"), [("0:01.50", 1.5), ("01:02:03", 3723.0), ("2-00:00:01", 172801.0)]
)
def test_times_of_ps_are_read(clock: str, expected: float) -> None:
    assert seconds(clock) == pytest.approx(expected)


def test_a_line_has_the_ratio_to_the_sdk_client_of_the_same_round() -> None:
    samples = Samples()
    for own, floor in ((2.0, 1.0), (8.0, 2.0), (9.0, 3.0)):
        samples.add("first token", "HTTP API", own)
        samples.add("first token", SDK, floor)
    line = samples.line("first token", "HTTP API", "ms")
    assert line.ratio is not None
    assert line.ratio.median == pytest.approx(3.0)
    assert samples.line("first token", SDK, "ms").ratio is None


@pytest.mark.parametrize(
    ("figure", "at_most", "reached"),
    [(1.0, True, True), (1.1, True, False), (1.1, False, True), (0.9, False, False)],
)
def test_a_target_is_reached_on_the_right_side_of_its_limit(
    figure: float, at_most: bool, reached: bool
) -> None:
    target = Target("", 1.0, Spread(figure, figure, figure), at_most)
    assert target.reached is reached


def test_the_report_lists_what_was_reached_missed_refused_and_failed() -> None:
    good = Target("at most 2", 2.0, Spread(1.0, 0.9, 1.1))
    bad = Target("at most 2", 2.0, Spread(3.0, 3.0, 3.0))
    lines = [
        Line("first", "HTTP API", "ms", (1.0, 2.0), target=good),
        Line("first", "gRPC API", "ms", (1.0, 2.0), target=bad),
        not_supported("tools", "HTTP API", "no tools"),
    ]
    report = Report(
        MACHINE,
        2,
        False,
        [Outcome("one", "About it.", 1.0, lines), Outcome("two", "", 1.0, error="it broke")],
    )
    text = report.to_markdown()
    assert "Targets reached: 1 of 2" in text
    assert "at most 2: 1 (0.9 to 1.1)" in text
    assert "**missed**" in text
    assert "not supported yet: no tools" in text
    assert "**Failed:** it broke" in text
    values = report.to_json()["scenarios"][0]["lines"]
    assert [value["reached"] for value in values] == [True, False, None]
    assert values[2]["median"] is None


def test_events_that_arrive_in_pieces_have_the_moment_of_their_last_one() -> None:
    pieces = [(1.0, b'data: {"n":1}\n\nda'), (2.0, b'ta: {"n":2}\n\ndata: [DONE]\n\n')]
    assert list(sse_events(pieces)) == [(1.0, {"n": 1}), (2.0, {"n": 2})]


def test_a_conversation_grows_by_an_answer_and_a_question() -> None:
    request = Request("system", ("one",)).then("two", "three")
    assert list(request.messages()) == [("user", "one"), ("assistant", "two"), ("user", "three")]
