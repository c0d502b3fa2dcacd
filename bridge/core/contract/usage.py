"""Tokens used by a request, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, summed over every upstream call made for one request."""

    input_tokens: int = 0
    """Not counting those read from or written to the prompt cache."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    """The part of output_tokens that was thinking, if the API reports it."""
    cache_write_1h_tokens: int = 0
    """The part of cache_write_tokens that is kept for an hour, not for five minutes."""

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and output together."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Cost:
    """The list price of a request's upstream calls, as Claude Code computes it."""

    usd: float = 0.0
    """US dollars; the part that is known."""
    by_model: Mapping[str, float] = field(default_factory=dict)
    """The same for each model that was called, by its full name."""
    known: bool = True
    """Whether it is the whole cost: what a process spent that was killed is unknown."""

    def __add__(self, other: Cost) -> Cost:
        models = dict.fromkeys((*self.by_model, *other.by_model))
        return Cost(
            self.usd + other.usd,
            {m: self.by_model.get(m, 0.0) + other.by_model.get(m, 0.0) for m in models},
            self.known and other.known,
        )

    @property
    def rounded_usd(self) -> float | None:
        """US dollars to the billionth; None if not all of it is known."""
        return round(self.usd, 9) if self.known else None


@dataclass(frozen=True, slots=True)
class Charge:
    """What a caller is told of the cost of its request."""

    usd: float | None
    """US dollars at list price; None if it is unknown."""
    billed: bool
    """Whether the account is billed for it; a subscription is not."""
    payer: str
    """The name of the account."""


UNKNOWN_COST = Cost(known=False)
DEFAULT_PAYER = "default"
"""The payer of a server that has one only."""
