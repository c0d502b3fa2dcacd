"""How soon another process is started after failures."""

from __future__ import annotations

from bridge.core.pool.backoff import LOOP, MAX_DELAY, StartBackoff


def after(failures: int) -> StartBackoff:
    backoff = StartBackoff()
    for moment in range(failures):
        backoff.failed(started_at=moment, now=moment)
    return backoff


def test_a_process_that_fails_is_replaced_at_once_and_the_next_ones_later_and_later() -> None:
    delays = [after(failures).delay for failures in range(1, 6)]
    assert delays == [0, 1, 2, 4, 8]


def test_the_delay_has_a_bound_however_often_it_fails() -> None:
    assert after(2_000).delay == MAX_DELAY


def test_those_that_fail_together_count_once() -> None:
    backoff = StartBackoff()
    for _ in range(6):
        backoff.failed(started_at=1, now=5)
    assert backoff.failures == 1
    backoff.failed(started_at=5, now=6)
    assert backoff.failures == 2


def test_a_sound_process_ends_the_loop() -> None:
    backoff = after(LOOP)
    assert backoff.looping
    backoff.proven(started_at=LOOP)
    assert (backoff.looping, backoff.delay) == (False, 0)


def test_a_process_that_is_older_than_the_last_failure_proves_nothing() -> None:
    backoff = after(LOOP)
    backoff.proven(started_at=0)
    assert backoff.looping
