from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from bridge.core.access.budgets import DAY
from bridge.core.access.keys import KeyLimits
from bridge.core.access.local_counts import LocalCounts
from bridge.core.access.quotas import Quotas
from bridge.core.contract.errors import AuthenticationError, RateLimitedError
from bridge.core.contract.states import Allowances
from bridge.core.system import locked
from tests.support.harness import SCALE

MIDNIGHT = 1_700_006_400.0
"""The start of a UTC day."""


class Clocks:
    def __init__(self) -> None:
        self.now = 1000.0
        self.time = MIDNIGHT + 3600

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.time += seconds

    def quotas(self, limits: KeyLimits, file: Path | None = None) -> Quotas:
        counts = LocalCounts(file, clock=lambda: self.now, now=lambda: self.time)
        return Quotas(lambda caller: limits, counts, now=lambda: self.time)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


async def spend(quotas: Quotas, tokens: int = 0, caller: str = "k") -> None:
    async with quotas.admitted(caller) as meter:
        meter.tokens = tokens


async def tokens_today(quotas: Quotas) -> int:
    left = (await quotas.allowances("k")).tokens
    assert left is not None
    return left.limit - left.remaining


async def refused(quotas: Quotas, caller: str = "k") -> RateLimitedError:
    with pytest.raises(RateLimitedError) as raised:
        await spend(quotas, caller=caller)
    return raised.value


async def test_nothing_is_left_to_show_for_a_key_that_is_revoked_while_it_is_answered() -> None:
    def limits_of(caller: str) -> KeyLimits:
        raise AuthenticationError("This API key has been revoked.")

    assert await Quotas(limits_of).allowances("k") == Allowances()


async def test_tokens_are_kept_over_a_restart_and_shared_with_other_servers(
    clocks: Clocks, tmp_path: Path
) -> None:
    file = tmp_path / "state" / "usage.json"
    limits = KeyLimits(tokens_per_day=100)
    one, other = clocks.quotas(limits, file), clocks.quotas(limits, file)
    await spend(one, 60)
    await spend(other, 30)
    await spend(one, 10)
    assert await tokens_today(clocks.quotas(limits, file)) == 100
    await refused(clocks.quotas(limits, file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    stored = json.loads(file.read_text())
    assert stored.pop("source")
    assert stored == {
        "day": "2023-11-15",
        "month": "2023-11",
        "tokens": {"k": 100},
        "tokens_per_month": {"k": 100},
        "usd_per_day": {},
        "usd_per_month": {},
    }
    clocks.pass_(DAY)
    assert await tokens_today(clocks.quotas(limits, file)) == 0
    await spend(one, 5)
    assert json.loads(file.read_text())["tokens"] == {"k": 5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"day": "2023-11-15", "tokens": {"k": "x"}}',
        '{"day": "2023-11-15", "tokens": {"k": 1e999}}',
    ],
)
async def test_a_broken_file_costs_the_count_and_not_the_answer(
    clocks: Clocks, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "usage.json"
    file.write_text(text)
    quotas = clocks.quotas(KeyLimits(tokens_per_day=100), file)
    await spend(quotas, 100)
    await refused(quotas)


async def test_usage_that_cannot_be_stored_still_counts_and_is_reported_once(
    clocks: Clocks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    quotas = clocks.quotas(KeyLimits(tokens_per_day=100), tmp_path / "file" / "usage.json")
    await spend(quotas, 40)
    await spend(quotas, 40)
    await spend(quotas, 40)
    await refused(quotas)
    assert sum("cannot be stored" in r.getMessage() for r in caplog.records) == 1
    assert all(r.levelno <= logging.WARNING for r in caplog.records)


async def test_what_could_not_be_stored_is_stored_with_the_next_change(
    clocks: Clocks, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("")
    file = tmp_path / "state" / "usage.json"
    limits = KeyLimits(tokens_per_day=100)
    quotas = clocks.quotas(limits, file)
    await spend(quotas, 40)
    (tmp_path / "state").unlink()
    await spend(quotas, 30)
    assert await tokens_today(quotas) == 70
    assert await tokens_today(clocks.quotas(limits, file)) == 70


async def test_a_server_that_holds_the_lock_stops_no_other(clocks: Clocks, tmp_path: Path) -> None:
    file = tmp_path / "usage.json"
    limits = KeyLimits(tokens_per_day=100)
    quotas = clocks.quotas(limits, file)
    async with quotas.counts.counting():
        await spend(quotas, 10)
        with locked(file):
            # Blocked, this would never end.
            await spend(quotas, 20)
            assert await tokens_today(quotas) == 30
            assert await tokens_today(clocks.quotas(limits, file)) == 10
    assert await tokens_today(clocks.quotas(limits, file)) == 30


async def test_what_another_server_has_used_counts_before_the_next_request(
    clocks: Clocks, tmp_path: Path
) -> None:
    file = tmp_path / "usage.json"
    limits = KeyLimits(tokens_per_day=100)
    one, other = clocks.quotas(limits, file), clocks.quotas(limits, file)
    await spend(one, 10)
    await spend(other, 90)
    assert (await refused(one)).reason == "KEY_TOKENS_PER_DAY"


async def test_a_cost_counts_for_the_budget_in_dollars(clocks: Clocks) -> None:
    quotas = clocks.quotas(KeyLimits(usd_per_day=1.0))
    quotas.charge("k", 0.75)
    await spend(quotas)
    quotas.charge("k", 0.25)
    assert (await refused(quotas)).reason == "KEY_USD_PER_DAY"


async def test_without_limits_nothing_is_kept(clocks: Clocks, tmp_path: Path) -> None:
    file = tmp_path / "usage.json"
    quotas = clocks.quotas(KeyLimits(models=("opus",)), file)
    for _ in range(50 * SCALE):
        await spend(quotas, 10)
    assert not file.exists()
