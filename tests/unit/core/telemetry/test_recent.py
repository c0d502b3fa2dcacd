from __future__ import annotations

from bridge.core.contract import CompletionRequest, Cost
from bridge.core.telemetry.recent import RecentRequests
from bridge.core.telemetry.request_record import RequestRecord
from tests.support.harness import user


def record(number: int) -> RequestRecord:
    request = CompletionRequest((user("secret words"),), request_id=f"req_{number}")
    return RequestRecord(request, 10.0, bodies=True)


def test_the_latest_are_kept_newest_first_without_their_words() -> None:
    recent = RecentRequests(kept=2)
    for number in range(3):
        one = record(number)
        recent.began(one)
        assert f"req_{number}" not in [line["request_id"] for line in recent.lines()]
        recent.ended(one)
        assert recent.lines()[0]["cost_usd"] is None
        one.cost = Cost(float(number))
        recent.booked(one)
    assert [line["request_id"] for line in recent.lines()] == ["req_2", "req_1"]
    assert [line["cost_usd"] for line in recent.lines()] == [2.0, 1.0]
    assert "secret" not in str(recent.lines())
