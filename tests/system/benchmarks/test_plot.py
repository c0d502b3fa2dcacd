from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plot import PlotError, curves, draw
from benchmarks.record import Line
from benchmarks.scenarios.throughput import FIRST, RATE, at

LINES = (
    Line(at(FIRST, 8), "HTTP API", "ms", (30.0, 50.0)),
    Line(at(FIRST, 1), "HTTP API", "ms", (10.0,)),
    Line(at(FIRST, 1), "gRPC API", "ms", (12.0,)),
    Line(at(FIRST, 8), "gRPC API", "ms"),
    Line(at(RATE, 1), "HTTP API", "/s", (2.0,)),
    Line("first token", "HTTP API", "ms", (1.0,)),
)


def test_a_curve_is_a_subjects_medians_in_the_order_of_the_counts() -> None:
    http, grpc = curves(LINES, FIRST)

    assert (http.subject, grpc.subject) == ("HTTP API", "gRPC API")
    assert [(count, around.median) for count, around in http.points] == [(1, 10.0), (8, 40.0)]
    assert [count for count, _ in grpc.points] == [1]


def test_without_the_figures_the_missing_scenario_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlotError, match="throughput"):
        draw(LINES[-1:], tmp_path / "plot.svg")


def test_it_is_drawn_or_the_remedy_is_named(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    try:
        draw(LINES, file)
    except PlotError as error:
        assert "pip install" in str(error)  # noqa: PT017 - which of the two depends on the machine
        assert not file.exists()
    else:
        assert "HTTP API" in file.read_text()
