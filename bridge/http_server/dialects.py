"""The dialects that a server speaks. The first answers what no other claims."""

from __future__ import annotations

from bridge.core.answers import ResponseStore
from bridge.http_server.anthropic import Anthropic
from bridge.http_server.dialect import Dialect
from bridge.http_server.openai import OpenAI


def all_dialects(store: ResponseStore | None = None) -> tuple[Dialect, ...]:
    """Make every dialect; `store` keeps responses, and without it none is kept."""
    return (OpenAI(store), Anthropic())
