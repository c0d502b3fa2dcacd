from __future__ import annotations

from bridge.core.contract import (
    UNKNOWN_COST,
    CompletionRequest,
    Cost,
    SessionSource,
    Started,
    Usage,
)
from bridge.core.ledger.entries import Totals, entry_of
from bridge.core.telemetry import RequestRecord


def record(cost: Cost, *, billed: bool = False) -> RequestRecord:
    made = RequestRecord(CompletionRequest((), request_id="req_1", caller="a"), 0.0)
    made.leased(SessionSource.WARM, 0.0)
    made.see(Started("opus-9"), 0.0)
    made.spent, made.cost, made.billed = Usage(1, 2, 3, 4), cost, billed
    return made


def test_a_request_has_its_tokens_and_its_cost() -> None:
    entry = entry_of(record(Cost(0.5, {"opus-9[1m]": 0.5})))
    assert entry.totals == Totals(1, 1, 2, 3, 4, 0.5, 0.0, 0)
    assert (entry.key, entry.model, entry.payer, entry.cost_usd) == ("a", "opus-9", "default", 0.5)
    assert list(entry.shares()) == [("opus-9", entry.totals)]


def test_what_other_models_cost_is_theirs() -> None:
    entry = entry_of(record(Cost(0.75, {"opus-9": 0.5, "small-9": 0.25}), billed=True))
    own, other = entry.shares()
    assert own == ("opus-9", Totals(1, 1, 2, 3, 4, 0.5, 0.5, 0))
    assert other == ("small-9", Totals(cost_usd=0.25, billed_usd=0.25))
    assert own[1] + other[1] == entry.totals


def test_a_cost_that_is_not_known_is_counted_as_such() -> None:
    entry = entry_of(record(Cost(0.5, {"opus-9": 0.5}) + UNKNOWN_COST))
    assert entry.cost_usd is None
    assert (entry.totals.cost_usd, entry.totals.unknown_costs) == (0.5, 1)
