"""Tokens of upstream calls, as the API reports them. Pure."""

from __future__ import annotations

from bridge.core.claude.wire import Wire
from bridge.core.contract import Usage


class CallUsage:
    """Adds up the calls of one request."""

    def __init__(self, spent: Usage) -> None:
        """`spent` is the usage of the calls before."""
        self._before = spent
        self._call = Usage()

    @property
    def total(self) -> Usage:
        """Tokens of all calls so far."""
        return added(self._before, self._call)

    def next_call(self, wire: Wire) -> None:
        """Start another call with this report."""
        self._before = self.total
        self._call = _updated(Usage(), wire)

    def report(self, wire: Wire) -> None:
        """Record a report of the current call."""
        self._call = _updated(self._call, wire)


class UnseenCalls:
    """Counts the calls of a turn after its answer is complete: the CLI makes some on its own, and
    no reader sees them."""

    def __init__(self) -> None:
        self.count = 0
        """Calls that the CLI has started."""
        self._usage: CallUsage | None = None

    @property
    def usage(self) -> Usage:
        """Their tokens, as far as reported before the turn ended."""
        return Usage() if self._usage is None else self._usage.total

    def feed(self, line: Wire) -> None:
        """Record a line that no reader sees."""
        kind = line["type"]
        if kind == "system":
            self.count += line.get("status") == "requesting"
        elif kind == "stream_event" and line.get("parent_tool_use_id") is None:
            event = line["event"]
            if event["type"] == "message_start":
                self._usage = self._usage or CallUsage(Usage())
                self._usage.next_call(event["message"].get("usage") or {})
            elif event["type"] == "message_delta" and self._usage is not None:
                self._usage.report(event.get("usage") or {})


def _updated(usage: Usage, wire: Wire) -> Usage:
    """Return the usage of one upstream call after another report: reports are cumulative."""

    def count(name: str, before: int) -> int:
        value = wire.get(name)
        return value if isinstance(value, int) else before

    thinking = _inside(wire, "output_tokens_details", "thinking_tokens")
    hour = _inside(wire, "cache_creation", "ephemeral_1h_input_tokens")
    return Usage(
        input_tokens=count("input_tokens", usage.input_tokens),
        cache_read_tokens=count("cache_read_input_tokens", usage.cache_read_tokens),
        cache_write_tokens=count("cache_creation_input_tokens", usage.cache_write_tokens),
        cache_write_1h_tokens=usage.cache_write_1h_tokens if hour is None else hour,
        output_tokens=count("output_tokens", usage.output_tokens),
        thinking_tokens=usage.thinking_tokens if thinking is None else thinking,
    )


def _inside(wire: Wire, name: str, inner: str) -> int | None:
    details = wire.get(name)
    value = details.get(inner) if isinstance(details, dict) else None
    return value if isinstance(value, int) else None


def added(a: Usage, b: Usage) -> Usage:
    """Return the sum of both."""
    return Usage(
        a.input_tokens + b.input_tokens,
        a.cache_read_tokens + b.cache_read_tokens,
        a.cache_write_tokens + b.cache_write_tokens,
        a.output_tokens + b.output_tokens,
        a.thinking_tokens + b.thinking_tokens,
        a.cache_write_1h_tokens + b.cache_write_1h_tokens,
    )
