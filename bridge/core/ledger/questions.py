"""What a caller may ask about usage, the same over HTTP and gRPC. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.core.contract import InvalidRequestError, NotFoundError, PermissionDeniedError
from bridge.core.ledger.entries import Dimension, Entry
from bridge.core.ledger.periods import first_day


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose usage a caller may see."""

    key: str
    """The name of its key."""
    admin: bool
    """Whether it may see that of all keys."""

    def keys(self, asked: str = "") -> str | None:
        """Return the key whose usage is shown, None for all; `asked` is the one it names, if any.

        Raises PermissionDeniedError (field `key`).
        """
        if self.admin:
            return asked or None
        if asked not in ("", self.key):
            raise PermissionDeniedError(
                "Only a key with the scope admin sees the usage of other keys. Omit 'key' to see "
                "your own.",
                field="key",
            )
        return self.key


@dataclass(frozen=True, slots=True)
class Period:
    """UTC days, both included, as YYYY-MM-DD."""

    since: str
    """Empty for the first one."""
    until: str


def period_of(since: str, until: str, now: float) -> Period:
    """Parse a period; empty means without a limit, and `now` is in Unix seconds.

    Raises InvalidRequestError (field `since` or `until`).
    """
    found = Period(_day("since", since, now) or "", _day("until", until, now) or "9999-12-31")
    if found.until < found.since:
        raise InvalidRequestError(
            f"'until' ({found.until}) is before 'since' ({found.since}).", field="until"
        )
    return found


def _day(field: str, text: str, now: float) -> str | None:
    if not text:
        return None
    try:
        return first_day(text, now)
    except ValueError:
        raise InvalidRequestError(
            f"'{field}' must be a date, such as 2026-11-01, or a number of days, such as 7d.",
            field=field,
        ) from None


def dimension_of(text: str) -> Dimension:
    """Parse a dimension; empty is the day. Raises InvalidRequestError (field `by`)."""
    try:
        return Dimension(text or Dimension.DAY)
    except ValueError:
        names = ", ".join(Dimension)
        raise InvalidRequestError(f"'by' must be one of {names}.", field="by") from None


def found(entry: Entry | None, id: str) -> Entry:
    """Return the entry; raises NotFoundError (field `request_id`) if there is none."""
    if entry is None:
        raise NotFoundError(
            "No request of this key with this id has ended in the last 30 days.",
            field="request_id",
            id=id,
        )
    return entry
