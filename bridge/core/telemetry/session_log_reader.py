"""Reads the session log, including its rotated files."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from bridge.core.telemetry.session_log import locked, rotated

POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log."""

    text: str
    record: Mapping[str, Any]


Wanted = Callable[[Mapping[str, Any]], bool]


def wanted(
    request_id: str | None = None,
    *,
    errors: bool = False,
    labels: Sequence[tuple[str, str]] = (),
    key: Callable[[str], bool] | None = None,
) -> Wanted:
    """Return a filter for one request, for failures, for requests with all these labels.

    A prefix of the request's id is enough; or it is the caller's own id as a whole. `key` decides
    by the key of a request, which is empty if none was required.
    """

    def is_wanted(record: Mapping[str, Any]) -> bool:
        if errors and not record.get("error"):
            return False
        if key is not None and not key(str(record.get("key", ""))):
            return False
        has = record.get("labels")
        if labels and not (isinstance(has, dict) and all(has.get(n) == v for n, v in labels)):
            return False
        id = str(record.get("request_id", "")).removeprefix("req_")
        return (
            request_id is None
            or id.startswith(request_id.removeprefix("req_"))
            or record.get("client_request_id") == request_id
        )

    return is_wanted


class LogReader:
    """Reads the log, newest files first, then follows it. Close it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self.broken = 0
        """The number of invalid lines that were skipped."""

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def last(self, count: int, wanted: Wanted) -> list[Entry]:
        """Return the last matching records, oldest first; raises OSError as reading does."""
        with locked(self._path, exclusive=False):
            files = [file for file in map(_opened, self._files()) if file is not None]
        found: deque[Entry] = deque()
        rest = b""
        try:
            for file in files:
                entries = deque((e for e in self._entries(file) if wanted(e.record)), count)
                while entries and len(found) < count:
                    found.appendleft(entries.pop())
                if self._file is None:
                    # The newest: where `follow` continues.
                    self._file, rest = file, self._rest
                else:
                    self.broken += bool(self._rest)
                self._rest = b""
                if len(found) >= count:
                    break
        finally:
            for file in files:
                if file is not self._file:
                    file.close()
        self._rest = rest
        return list(found)

    def follow(
        self, wanted: Wanted, pause: Callable[[], None] = lambda: time.sleep(POLL_SECONDS)
    ) -> Iterator[Entry]:
        """Yield matching records written from now on, or after `last`; without end.

        `pause` is called whenever there is nothing new.
        """
        while True:
            nothing = True
            for file in self._due():
                for entry in self._entries(file):
                    if wanted(entry.record):
                        nothing = False
                        yield entry
            if nothing:
                pause()

    def _due(self) -> Iterator[BinaryIO]:
        """Yield the files that may have new records, oldest first; the last becomes the current."""
        file = self._file
        if file is not None:
            # Checked first: a rotated file is no longer written to.
            moved = not self._is_current(file)
            if os.fstat(file.fileno()).st_size < file.tell():
                # The operator has truncated it.
                file.seek(0)
            yield file
            if not moved:
                return
            self.broken += bool(self._rest)
            self._rest = b""
        newer: list[BinaryIO] = []
        with locked(self._path, exclusive=False):
            for path in self._files():
                opened = _opened(path)
                if opened is None:
                    continue
                if file is not None and _same(opened, file):
                    opened.close()
                    break
                newer.append(opened)
        self._close()
        while newer:
            self._close()
            self._file = newer.pop()
            yield self._file

    def _entries(self, file: BinaryIO) -> Iterator[Entry]:
        for line in file:
            whole = self._rest + line
            if not whole.endswith(b"\n"):
                # The rest of the line is still to come.
                self._rest = whole
                return
            self._rest = b""
            entry = _entry(whole)
            if entry is not None:
                yield entry
            elif whole.strip():
                self.broken += 1

    def _files(self) -> list[Path]:
        """Return the current file and the old ones, newest first."""
        numbers = sorted(
            int(number)
            for path in self._path.parent.glob(f"{self._path.name}.*")
            if (number := path.name.removeprefix(f"{self._path.name}.")).isdecimal()
        )
        return [rotated(self._path, number) for number in (0, *numbers)]

    def _is_current(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _same(one: BinaryIO, other: BinaryIO) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def _entry(line: bytes) -> Entry | None:
    try:
        text = line.decode().rstrip("\n")
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return Entry(text, record) if isinstance(record, dict) else None


COLUMNS: Final = (
    "time", "request", "api", "key", "model", "session", "queue", "first", "total", "tokens",
    "end",
)  # fmt: skip
"""The columns of the table: times in seconds, tokens of the prompt and of the answer."""


def cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a record as a row of the table; missing values are empty."""
    prompt = [record.get(f"{kind}_tokens") for kind in ("input", "cache_read", "cache_write")]
    output = record.get("output_tokens")
    counts = [count for count in prompt if isinstance(count, int)]
    tokens = f"{sum(counts)} + {output}" if counts and isinstance(output, int) else ""
    return (
        _local(record.get("time")),
        _text(record.get("request_id")).removeprefix("req_")[:12],
        _text(record.get("api")),
        _text(record.get("key")),
        _text(record.get("model") or record.get("model_asked")),
        _text(record.get("session")),
        _seconds(record.get("queue_ms")),
        _seconds(record.get("first_token_ms")),
        _seconds(record.get("total_ms")),
        tokens,
        _text(record.get("error") or record.get("finish")),
    )


def _text(value: object) -> str:
    # A caller chose the model's name: it must not start a new line or control the terminal.
    text = "" if value is None else str(value)
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _seconds(milliseconds: object) -> str:
    return f"{milliseconds / 1000:.2f}" if isinstance(milliseconds, int | float) else ""


def _local(value: object) -> str:
    try:
        return datetime.fromisoformat(str(value)).astimezone().strftime("%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return _text(value)
