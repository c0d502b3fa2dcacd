from __future__ import annotations

from typing import Any

import pytest

from bridge.core.contract import DrainingError, QueueFullError
from bridge.core.pool.leases import Need
from bridge.core.pool.policy import RequestView
from bridge.core.pool.queue import RequestQueue

PROFILE: Any = "profile"


def view(id: int, caller: str = "") -> RequestView:
    return RequestView(id, PROFILE, caller)


def seconds() -> float:
    return 40.0


async def test_one_caller_may_have_so_many_waiting_and_another_as_many() -> None:
    queue = RequestQueue(1)
    queue.check_size(queue.join(view(1, "a")), seconds)
    queue.check_size(queue.join(view(2, "b")), seconds)
    with pytest.raises(QueueFullError) as caught:
        queue.check_size(queue.join(view(3, "a")), seconds)
    assert caught.value.retry_after == 40.0
    assert [waiting.view.id for waiting in queue.present()] == [1, 2]


async def test_one_that_is_granted_at_once_does_not_count() -> None:
    queue = RequestQueue(0)
    waiting = queue.join(view(1))
    process: Any = object()
    assert queue.grant(1, process) is waiting
    queue.check_size(waiting, seconds)
    assert (len(queue), waiting.granted.result()) == (0, process)


async def test_what_was_granted_to_one_that_leaves_is_taken_back() -> None:
    queue = RequestQueue(9)
    leaving, granted = queue.join(view(1)), queue.join(view(2))
    process: Any = object()
    queue.grant(2, process)
    assert (leaving.taken_back(), granted.taken_back()) == (None, process)
    leaving.granted.cancel()
    assert leaving.taken_back() is None
    assert queue.present() == []
    queue.leave(leaving)
    queue.leave(leaving)
    assert len(queue) == 0


async def test_the_requests_of_a_caller_are_forgotten() -> None:
    queue = RequestQueue(9)
    mine, other = queue.join(view(1, "a")), queue.join(view(2, "b"))
    queue.forget("a")
    assert (mine.forgotten, other.forgotten) == (True, False)


async def test_a_new_request_comes_after_its_callers_own_and_before_callers_with_more() -> None:
    queue = RequestQueue(9)
    for id in (1, 2, 3):
        queue.join(view(id, "busy"))
    assert queue.ahead(Need(PROFILE, "busy"), ["busy"]) == 3
    assert queue.ahead(Need(PROFILE, "rare"), ["busy"]) == 0


async def test_all_are_refused_each_with_an_error_of_its_own() -> None:
    queue = RequestQueue(9)
    waiting = [queue.join(view(id)) for id in (1, 2)]
    queue.refuse_all(lambda: DrainingError("It stops."))
    errors = [one.granted.exception() for one in waiting]
    assert all(isinstance(error, DrainingError) for error in errors)
    assert errors[0] is not errors[1]
    assert len(queue) == 0
