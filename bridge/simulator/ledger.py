"""Records the simulator's requests and how each answer ended: evidence for tests."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

Ended = Literal["completed", "client_closed", "cut", "refused"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A snapshot of one `POST /v1/messages`. Times are monotonic seconds.

    `ended` is None while the answer is open; then `completed` (the whole answer was written),
    `client_closed` (the client disconnected first), `cut` (the simulator ended it early:
    `cut_after`, `error_after` or its own shutdown) or `refused` (answered with an error status).
    """

    number: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    started_at: float
    status: int | None = None
    ended: Ended | None = None
    ended_at: float | None = None
    usage: Mapping[str, Any] | None = None

    @property
    def model(self) -> str:
        """The requested model."""
        return str(self.body.get("model", ""))

    @property
    def credential(self) -> str:
        """The API key or the token of the request; empty if it has none."""
        return credential(self.headers)

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages as received."""
        messages = self.body.get("messages")
        return messages if isinstance(messages, list) else []

    @property
    def roles(self) -> tuple[str, ...]:
        """The role of each message, in order."""
        return tuple(str(message.get("role")) for message in self.messages)

    @property
    def system_text(self) -> str:
        """The text of the `system` field, blocks joined by newlines."""
        return text_of(self.body.get("system"))

    @property
    def last_user_text(self) -> str:
        """The text blocks of the last user message, joined by newlines."""
        users = [message for message in self.messages if message.get("role") == "user"]
        return text_of(users[-1].get("content")) if users else ""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The tools on offer, as received."""
        tools = self.body.get("tools")
        return tools if isinstance(tools, list) else []

    def contains(self, text: str) -> bool:
        """Whether the body's JSON text contains `text` (non-ASCII characters unescaped)."""
        return text in json.dumps(self.body, ensure_ascii=False)


def credential(headers: Mapping[str, str]) -> str:
    """Return the API key or the token of a request; empty if it has none."""
    bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
    return headers.get("x-api-key") or bearer


def text_of(content: object) -> str:
    """Return the text of a content field (a string or blocks), blocks joined by newlines."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [block.get("text") for block in content if isinstance(block, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


@dataclass(slots=True)
class _Watcher:
    """A coroutine that waits for the next change, from any thread."""

    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        # A closed loop has no waiting coroutine.
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.changed.set)


class Ledger:
    """Exchanges in the order of arrival, the newest `keep_requests` of them.

    Safe to use from any thread. It returns snapshots: read again to see a change.
    """

    def __init__(self, keep_requests: int = 10_000) -> None:
        self._keep = keep_requests
        self._exchanges: dict[int, Exchange] = {}
        self._count = 0
        self._changed = threading.Condition()
        self._watchers: list[_Watcher] = []

    def exchanges(self, *, containing: str | None = None) -> tuple[Exchange, ...]:
        """Return all exchanges, oldest first, or those whose body's JSON text contains
        `containing`."""
        with self._changed:
            found = tuple(self._exchanges.values())
        if containing is None:
            return found
        return tuple(exchange for exchange in found if exchange.contains(containing))

    def wait_for(
        self, predicate: Callable[[Sequence[Exchange]], bool], timeout: float = 60.0
    ) -> tuple[Exchange, ...]:
        """Block until `predicate` is true for the exchanges, and return them.

        `timeout` is in seconds; TimeoutError reports the exchanges seen instead.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate(found := tuple(self._exchanges.values())):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(_seen(found, timeout))
        return found

    async def wait_for_async(
        self, predicate: Callable[[Sequence[Exchange]], bool], timeout: float = 60.0
    ) -> tuple[Exchange, ...]:
        """Like `wait_for`, without blocking the running loop."""
        watcher = _Watcher(asyncio.get_running_loop())
        with self._changed:
            self._watchers.append(watcher)
        found: tuple[Exchange, ...] = ()
        try:
            async with asyncio.timeout(timeout):
                while not predicate(found := self.exchanges()):
                    await watcher.changed.wait()
                    watcher.changed.clear()
        except TimeoutError:
            raise TimeoutError(_seen(found, timeout)) from None
        finally:
            with self._changed:
                self._watchers.remove(watcher)
        return found

    def clear(self) -> None:
        """Forget all exchanges. Numbering continues."""
        with self._changed:
            self._exchanges.clear()
            self._announce()

    def begin(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> int:
        """Record a request; return its number."""
        with self._changed:
            self._count += 1
            self._exchanges[self._count] = Exchange(
                number=self._count,
                headers=MappingProxyType(dict(headers)),
                body=body,
                started_at=time.monotonic(),
            )
            while len(self._exchanges) > self._keep:
                del self._exchanges[next(iter(self._exchanges))]
            self._announce()
            return self._count

    def answer(self, number: int, status: int, usage: Mapping[str, Any] | None = None) -> None:
        """Record that an answer with `status` has started."""
        self._update(number, status=status, usage=usage)

    def end(self, number: int, ended: Ended, usage: Mapping[str, Any] | None = None) -> None:
        """Record how an exchange ended, the first time; `usage` replaces that of `answer`."""
        changes: dict[str, Any] = {"ended": ended, "ended_at": time.monotonic()}
        if usage is not None:
            changes["usage"] = usage
        self._update(number, **changes)

    def _update(self, number: int, **changes: Any) -> None:
        with self._changed:
            exchange = self._exchanges.get(number)
            # It may have been cleared, or dropped for newer ones.
            if exchange is not None and exchange.ended is None:
                self._exchanges[number] = replace(exchange, **changes)
                self._announce()

    def _announce(self) -> None:
        self._changed.notify_all()
        for watcher in self._watchers:
            watcher.wake()


def _seen(found: Sequence[Exchange], timeout: float) -> str:
    lines = [f"not seen within {timeout:g} s; the ledger has {len(found)} exchanges"]
    lines += [
        f"  #{e.number} {e.model} {'/'.join(e.roles)} status={e.status} ended={e.ended}"
        f" {e.last_user_text[:80]!r}"
        for e in found[-20:]
    ]
    return "\n".join(lines)
