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
        self._complained = False

    @property
    def source(self) -> str:
        """An id of the counts, which change with it if they start over: if the file is lost."""
        if not self._source:
            self._change(lambda kept: None)
        return self._source

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that have used something."""
        self._refresh()
        return tuple(self._spent)

    def of(self, caller: str) -> Spent:
        """Return what a key has used."""
        self._refresh()
        return self._spent.get(caller, Spent())

    def add(self, caller: str, *, tokens: int = 0, usd: float = 0.0) -> None:
        """Count what a key has used."""

        def added(spent: dict[str, Spent]) -> None:
            spent[caller] = spent.get(caller, Spent()).plus(Spent(tokens, tokens, usd, usd))

        self._refresh()
        self._change(added)

    def _refresh(self) -> None:
        """Leave what was used in a day or month that is over."""
        if self._periods != (current := periods(self._now())):
            self._spent = self._kept()
            self._periods = current

    def _change(self, change: Callable[[dict[str, Spent]], None]) -> None:
        if self._path is None:
            self._source = self._source or uuid.uuid4().hex
            change(self._spent)
            return
        try:
            private_folder(self._path.parent)
            with locked(self._path):
                # Another server with the same folder may have updated the file.
                kept = self._kept()
                self._source = self._source or uuid.uuid4().hex
                change(kept)
                # This runs on the event loop after each request: do not wait for the disk.
                replace_file(self._path, self._text_of(kept), durable=False)
                self._spent = kept
        except OSError as error:
            self._source = self._source or uuid.uuid4().hex
            change(self._spent)
            if not self._complained:
                self._complained = True
                logger.warning("key usage cannot be stored in %s: %s", self._path, error)

    def _kept(self) -> dict[str, Spent]:
        """Return what is stored in the file of this day and month."""
        if self._path is None:
            day, month = periods(self._now())
            same_day, same_month = self._periods[0] == day, self._periods[1] == month
            return {
                key: spent.of(day=same_day, month=same_month) for key, spent in self._spent.items()
            }
        try:
            return self._read(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (
            OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
        ) as error:  # fmt: skip
            logger.warning("key usage cannot be read from %s: %s", self._path, error)
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


def _name(budget: Budget) -> str:
    # Older versions know this one only.
    return "tokens" if budget is TOKENS_PER_DAY else budget.name


def _period_name(budget: Budget) -> str:
    return "month" if budget.monthly else "day"
