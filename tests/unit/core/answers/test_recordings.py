"""The limits of the detached answers that are kept: time, number, size, and between keys."""

from __future__ import annotations

import pytest

from bridge.core.answers.recording import Recording, size_of
from bridge.core.answers.recordings import RecordingLimits, Recordings
from bridge.core.contract.errors import AnswerTooLargeError, RateLimitedError, UnavailableError
from bridge.core.contract.events import TextDelta
from bridge.core.contract.request import CompletionRequest

PIECE = TextDelta("x" * 10_000)
SIZE = size_of(PIECE)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(recordings: Recordings, id: str, owner: str = "laptop") -> Recording:
    recording = Recording(CompletionRequest((), request_id=id, owner=owner), 0.0, None)
    recordings.add(recording)
    return recording


async def test_an_answer_is_kept_for_its_time_after_its_end() -> None:
    clock = Clock()
    recordings = Recordings(RecordingLimits(seconds=60.0), clock)
    answer = kept(recordings, "req_1")
    clock.now = 1_000.0
    assert recordings.find("laptop", "req_1") is answer
    recordings.end(answer, None)
    clock.now = 1_059.0
    assert recordings.find("laptop", "req_1") is answer
    clock.now = 1_060.0
    assert recordings.find("laptop", "req_1") is None
    recordings.close()


async def test_an_answer_does_not_exist_for_another_owner() -> None:
    recordings = Recordings(RecordingLimits(), Clock())
    kept(recordings, "req_1")
    assert recordings.find("phone", "req_1") is None


async def test_the_oldest_ended_answer_makes_room_for_one_more() -> None:
    recordings = Recordings(RecordingLimits(per_owner=2), Clock())
    first, second = kept(recordings, "req_1"), kept(recordings, "req_2")
    recordings.end(second, None)
    kept(recordings, "req_3")
    assert recordings.find("laptop", "req_1") is first
    assert recordings.find("laptop", "req_2") is None
    kept(recordings, "req_4", owner="phone")
    recordings.close()


async def test_running_answers_make_no_room() -> None:
    recordings = Recordings(RecordingLimits(per_owner=1), Clock())
    kept(recordings, "req_1")
    with pytest.raises(RateLimitedError, match="1 detached answers running") as error:
        kept(recordings, "req_2")
    assert error.value.reason == "TOO_MANY_DETACHED_ANSWERS"


async def test_an_answer_has_a_largest_size() -> None:
    recordings = Recordings(RecordingLimits(total_bytes=4 * 2 * SIZE), Clock())
    answer = kept(recordings, "req_1")
    recordings.record(answer, PIECE)
    recordings.record(answer, PIECE)
    with pytest.raises(AnswerTooLargeError, match=f"larger than {2 * SIZE} bytes"):
        recordings.record(answer, PIECE)


async def test_ended_answers_of_the_largest_owner_make_room() -> None:
    recordings = Recordings(RecordingLimits(total_bytes=4 * SIZE), Clock())
    for id, owner in (("s", "small"), ("l1", "large"), ("l2", "large"), ("l3", "large")):
        answer = kept(recordings, id, owner)
        recordings.record(answer, PIECE)
        recordings.end(answer, None)
    recordings.record(kept(recordings, "n", "new"), PIECE)
    found = [recordings.find(*each) is not None for each in (("small", "s"), ("large", "l1"))]
    assert found == [True, False]
    assert recordings.find("large", "l2") is not None
    recordings.close()


async def test_running_answers_that_take_all_the_room_leave_none() -> None:
    recordings = Recordings(RecordingLimits(total_bytes=4 * SIZE), Clock())
    running = [kept(recordings, f"req_{number}") for number in range(5)]
    for answer in running[:4]:
        recordings.record(answer, PIECE)
    with pytest.raises(UnavailableError, match=str(4 * SIZE)) as error:
        recordings.record(running[4], PIECE)
    assert not error.value.retryable
    recordings.end(running[4], error.value)
    recordings.drop(running[4])
    recordings.end(running[0], None)
    recordings.record(kept(recordings, "req_9"), PIECE)
    assert recordings.find("laptop", "req_0") is None
    recordings.close()
