"""Tokens used by a request."""

from __future__ import annotations

from dataclasses import dataclass


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
