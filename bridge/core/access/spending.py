"""What the keys with budgets have used in this day and month, in a file that survives a restart."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bridge.core.access.budgets import BUDGETS, TOKENS_PER_DAY, Budget, Spent, periods
from bridge.core.system import locked, private_folder, replace_file

logger = logging.getLogger(__name__)

USAGE_FILE: Final = "usage.json"
"""Its name in the state folder."""


class SpendingFile:
    """Counts for each key. Several servers may share the file."""

    def __init__(self, path: Path | None, now: Callable[[], float]) -> None:
        """Without a path, the counts are kept in memory only; `now` returns Unix seconds."""
        self._path = path
        self._now = now
        self._periods = ("", "")
        self._source = ""
        """Empty if it is not stored yet."""
        self._spent: dict[str, Spent] = {}
        self._unstored: dict[str, Spent] = {}
        """The part of it that is not in the file: it could not be written, or was locked."""
        self._read_from: tuple[int, ...] | None = None
        """Identifies the file as it was read or written last; None if there was none."""
        self._complained = False

    @property
    def source(self) -> str:
        """An id of the counts, which change with it if they start over: if the file is lost."""
        self._refresh()
        if not self._source:
            # Waits, since servers that share the file have one together.
            self._store(wait=True)
        return self._source

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that have used something."""
        self._refresh()
        return tuple(self._spent)

    def of(self, caller: str) -> Spent:
        """Return what a key has used, also on other servers with the same file."""
        self._refresh()
        return self._spent.get(caller, Spent())

    def add(self, caller: str, *, tokens: int = 0, usd: float = 0.0) -> None:
        """Count what a key has used."""
        self._refresh()
        used = {caller: Spent(tokens, tokens, usd, usd)}
        self._spent = _sum(self._spent, used)
        self._unstored = _sum(self._unstored, used)
        self._store()

    def store(self) -> None:
        """Store what could not be stored before."""
        self._refresh()
        if self._unstored:
            self._store(wait=True)

    def _refresh(self) -> None:
        """Notice what other servers have written, and leave days and months that are over."""
        before, self._periods = self._periods, periods(self._now())
        found = self._signature()
        if self._periods == before and found == self._read_from:
            return
        same_day, same_month = (old == new for old, new in zip(before, self._periods, strict=True))

        def current(counts: dict[str, Spent]) -> dict[str, Spent]:
            return {key: spent.of(day=same_day, month=same_month) for key, spent in counts.items()}

        self._unstored = current(self._unstored)
        if self._path is None:
            self._spent = current(self._spent)
        else:
            self._spent = _sum(self._kept(self._path), self._unstored)
            # As it was before reading, so that a change during the read is noticed the next time.
            self._read_from = found

    def _store(self, *, wait: bool = False) -> None:
        """Add what is not in the file yet, if it can be written now."""
        if self._path is None:
            self._source = self._source or uuid.uuid4().hex
            self._unstored = {}
            return
        try:
            private_folder(self._path.parent)
            # This runs on the event loop after each request: wait neither for another server that
            # has the lock, nor for the disk.
            with locked(self._path, wait=wait):
                kept = _sum(self._kept(self._path), self._unstored)
                self._source = self._source or uuid.uuid4().hex
                replace_file(self._path, self._text_of(kept), durable=False)
                self._read_from = self._signature()
        except BlockingIOError:
            # Another server is writing: it is stored with the next change.
            pass
        except OSError as error:
            self._source = self._source or uuid.uuid4().hex
            if not self._complained:
                self._complained = True
                logger.warning(
                    "key usage cannot be stored in %s, and is kept in memory: %s", self._path, error
                )
        else:
            self._spent, self._unstored = kept, {}
            self._complained = False

    def _signature(self) -> tuple[int, ...] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _kept(self, path: Path) -> dict[str, Spent]:
        """Return what is stored in the file of this day and month."""
        try:
            return self._read(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (
            OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
        ) as error:  # fmt: skip
            logger.warning("key usage cannot be read from %s: %s", path, error)
        if self._read_from is not None:
            # Counts that were stored are lost, and start over. Those never stored go on.
            self._source = ""
        return {}

    def _read(self, content: Any) -> dict[str, Spent]:
        kept: dict[str, Spent] = {}
        for budget in BUDGETS:
            if content.get(_period_name(budget)) != budget.period(self._now()):
                continue
            for key, used in content.get(_name(budget), {}).items():
                amount = float(used) if budget.dollars else int(used)
                before = asdict(kept.get(str(key), Spent()))
                kept[str(key)] = Spent(**{**before, budget.name: amount})
        # Files of earlier versions have none.
        self._source = str(content.get("source", ""))
        return kept

    def _text_of(self, kept: dict[str, Spent]) -> str:
        content: dict[str, Any] = {_period_name(b): b.period(self._now()) for b in BUDGETS}
        content["source"] = self._source
        for budget in BUDGETS:
            used = {key: budget.used_in(spent) for key, spent in kept.items()}
            content[_name(budget)] = {key: amount for key, amount in used.items() if amount}
        return json.dumps(content) + "\n"


def _sum(one: dict[str, Spent], other: dict[str, Spent]) -> dict[str, Spent]:
    return {key: one.get(key, Spent()).plus(other.get(key, Spent())) for key in {**one, **other}}


def _name(budget: Budget) -> str:
    # Older versions know this one only.
    return "tokens" if budget is TOKENS_PER_DAY else budget.name


def _period_name(budget: Budget) -> str:
    return "month" if budget.monthly else "day"
