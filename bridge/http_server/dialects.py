"""The dialects of the server. The first answers requests that no other claims."""

from __future__ import annotations

from bridge.core.answers import ResponseStore
from bridge.http_server.anthropic import Anthropic
from bridge.http_server.dialect import Dialect
from bridge.http_server.openai import OpenAI


def all_dialects(store: ResponseStore | None = None) -> tuple[Dialect, ...]:
    """Create every dialect; without a `store`, no responses are stored."""
    return (OpenAI(store), Anthropic())
