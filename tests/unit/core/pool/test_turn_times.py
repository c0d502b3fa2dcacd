"""How long a request would wait, based on the duration of turns."""

from __future__ import annotations

import pytest

from bridge.core.pool.turn_times import LONGEST, SHORTEST, TurnTimes, wait_estimate


@pytest.mark.parametrize(
    ("ahead", "pool_size", "turn", "seconds"),
    [
        (0, 1, 8.0, 8.0),
        (3, 1, 8.0, 32.0),
        (3, 2, 8.0, 16.0),
        (0, 4, 8.0, 2.0),
        (0, 1, 0.0, SHORTEST),
        (1_000, 1, 120.0, LONGEST),
    ],
    ids=["next", "behind three", "two at once", "four at once", "at least", "at most"],
)
def test_the_place_in_the_queue_by_the_turns_at_once(
    ahead: int, pool_size: int, turn: float, seconds: float
) -> None:
    assert wait_estimate(ahead, pool_size, turn) == seconds


def test_a_turn_takes_what_the_last_ones_took() -> None:
    pace = TurnTimes()
    for seconds in (2.0, 4.0):
        pace.note(seconds)
    assert pace.seconds_a_turn() == 3.0


def test_only_the_last_turns_count() -> None:
    pace = TurnTimes()
    for seconds in (100.0, *[2.0] * 32):
        pace.note(seconds)
    assert pace.seconds_a_turn() == 2.0


def test_turns_that_take_longer_than_usual_count_before_they_are_over() -> None:
    pace = TurnTimes()
    pace.note(2.0)
    assert pace.seconds_a_turn([10.0]) == 6.0
    assert pace.seconds_a_turn([0.5]) == 2.0


def test_before_any_turn_was_over_the_running_ones_count() -> None:
    assert TurnTimes().seconds_a_turn([10.0, 20.0]) == 15.0
    assert TurnTimes().seconds_a_turn() == 0.0
