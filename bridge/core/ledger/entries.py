"""What is recorded of a request, and the sums of many. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from bridge.core.contract import Cost
from bridge.core.telemetry import RequestRecord


class Dimension(StrEnum):
    """What usage is summed by."""

    DAY = "day"
    """A UTC day, as YYYY-MM-DD."""
    KEY = "key"
    MODEL = "model"
    """Its full name."""
    PAYER = "payer"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over requests. Tokens include those of answers that were cut."""

    requests: int = 0
    input_tokens: int = 0
    """Not counting those read from or written to the prompt cache."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    """The list price, as far as it is known."""
    billed_usd: float = 0.0
    """The part of it that an account is billed for; a subscription is not billed."""
    unknown_costs: int = 0
    """Requests whose cost is not known."""

    def __add__(self, other: Totals) -> Totals:
        names = [field.name for field in fields(self)]
        return Totals(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The sums of one day, key, model or payer."""

    name: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Entry:
    """What is recorded of one request."""

    request_id: str
    client_request_id: str
    ended_on: float
    """In Unix seconds."""
    key: str
    """The name of its key; empty if none was required."""
    model: str
    """The full name of the model that answered; empty if none did."""
    payer: str
    billed: bool
    error: str
    """The reason of the error that ended it; empty if there was none."""
    totals: Totals
    by_model: tuple[tuple[str, float], ...] = ()
    """What other models cost that Claude Code called for it."""

    @property
    def day(self) -> str:
        """The UTC day on which it ended."""
        return time.strftime("%Y-%m-%d", time.gmtime(self.ended_on))

    @property
    def cost_usd(self) -> float | None:
        """The list price; None if not all of it is known."""
        return None if self.totals.unknown_costs else round(self.totals.cost_usd, 9)

    def shares(self) -> Iterator[tuple[str, Totals]]:
        """Return its share of each model's sums: tokens count for the one that answered."""
        others = sum(usd for _, usd in self.by_model)
        own = self.totals.cost_usd - others
        yield self.model, replace(self.totals, cost_usd=own, billed_usd=own * self.billed)
        for model, usd in self.by_model:
            yield model, Totals(cost_usd=usd, billed_usd=usd * self.billed)


def entry_of(record: RequestRecord) -> Entry:
    """Return what is recorded of a request that is booked."""
    cost, spent = record.cost, record.spent
    return Entry(
        record.request.request_id,
        record.request.client_request_id,
        record.times.ended_on,
        record.request.caller,
        record.model,
        record.payer,
        record.billed,
        record.error,
        Totals(
            1,
            spent.input_tokens,
            spent.cache_read_tokens,
            spent.cache_write_tokens,
            spent.output_tokens,
            cost.usd,
            cost.usd if record.billed else 0.0,
            int(not cost.known),
        ),
        tuple(_others(cost, record.model)),
    )


def _others(cost: Cost, model: str) -> Iterable[tuple[str, float]]:
    if len(cost.by_model) == 1:
        # Claude Code may write its name in another way than the API.
        return ()
    return ((name, usd) for name, usd in cost.by_model.items() if name != model)
