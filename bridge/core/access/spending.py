"""What the keys with budgets have used in this day and month, in a file that survives a restart."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bridge.core.access.budgets import BUDGETS, TOKENS_PER_DAY, Budget, Spent
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
        self._periods: dict[str, str] = {}
        self._spent: dict[str, Spent] = {}
        self._complained = False

    def of(self, caller: str) -> Spent:
        """Return what a key has used."""
        if self._periods != (periods := self._current()):
            self._spent = self._kept()
            self._periods = periods
        return self._spent.get(caller, Spent())

    def add(self, caller: str, *, tokens: int = 0, usd: float = 0.0) -> None:
        """Count what a key has used."""
        before = self.of(caller)
        if self._path is None:
            self._spent[caller] = _added(before, tokens, usd)
            return
        try:
            private_folder(self._path.parent)
            with locked(self._path):
                # Another server with the same folder may have updated the file.
                kept = self._kept()
                kept[caller] = _added(kept.get(caller, Spent()), tokens, usd)
                # This runs on the event loop after each request: do not wait for the disk.
                replace_file(self._path, self._text_of(kept), durable=False)
                self._spent = kept
        except OSError as error:
            self._spent[caller] = _added(before, tokens, usd)
            if not self._complained:
                self._complained = True
                logger.warning("key usage cannot be stored in %s: %s", self._path, error)

    def _current(self) -> dict[str, str]:
        return {budget.name: budget.period(self._now()) for budget in BUDGETS}

    def _kept(self) -> dict[str, Spent]:
        """Return what is stored in the file of this day and month."""
        if self._path is None:
            # What is not of a past day or month goes on.
            past = {b for b in BUDGETS if self._periods.get(b.name) != b.period(self._now())}
            return {key: _without(spent, past) for key, spent in self._spent.items()}
        try:
            return self._read(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (
            OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
        ) as error:  # fmt: skip
            logger.warning("key usage cannot be read from %s: %s", self._path, error)
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
        return kept

    def _text_of(self, kept: dict[str, Spent]) -> str:
        content: dict[str, Any] = {_period_name(b): b.period(self._now()) for b in BUDGETS}
        for budget in BUDGETS:
            used = {key: budget.used_in(spent) for key, spent in kept.items()}
            content[_name(budget)] = {key: amount for key, amount in used.items() if amount}
        return json.dumps(content) + "\n"


def _name(budget: Budget) -> str:
    # Older versions know this one only.
    return "tokens" if budget is TOKENS_PER_DAY else budget.name


def _period_name(budget: Budget) -> str:
    return "month" if budget.monthly else "day"


def _added(spent: Spent, tokens: int, usd: float) -> Spent:
    return Spent(
        spent.tokens_per_day + tokens,
        spent.tokens_per_month + tokens,
        spent.usd_per_day + usd,
        spent.usd_per_month + usd,
    )


def _without(spent: Spent, budgets: set[Budget]) -> Spent:
    past = {budget.name for budget in budgets}
    return Spent(**{name: 0 if name in past else used for name, used in asdict(spent).items()})
