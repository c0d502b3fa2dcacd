"""What was used and what it cost: a record of each request, and sums that are kept."""

from bridge.core.ledger.entries import Dimension, Entry, Totals, UsageRow, entry_of
from bridge.core.ledger.ledger import LEDGER_FILE, Ledger
from bridge.core.ledger.periods import first_day
from bridge.core.ledger.tables import read_rows

__all__ = [
    "LEDGER_FILE",
    "Dimension",
    "Entry",
    "Ledger",
    "Totals",
    "UsageRow",
    "entry_of",
    "first_day",
    "read_rows",
]
