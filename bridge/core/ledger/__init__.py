"""What was used and what it cost: a record of each request, and sums that are kept."""

from bridge.core.ledger.entries import Dimension, Entry, Totals, UsageRow, entry_of
from bridge.core.ledger.ledger import LEDGER_FILE, Ledger, unavailable
from bridge.core.ledger.periods import first_day
from bridge.core.ledger.questions import Asker, Period, dimension_of, found, period_of
from bridge.core.ledger.tables import read_rows

__all__ = [
    "LEDGER_FILE",
    "Asker",
    "Dimension",
    "Entry",
    "Ledger",
    "Period",
    "Totals",
    "UsageRow",
    "dimension_of",
    "entry_of",
    "first_day",
    "found",
    "period_of",
    "read_rows",
    "unavailable",
]
