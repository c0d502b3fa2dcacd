"""Who pays for whose request: several accounts behind one service."""

from bridge.core.payers.choice import Option, list_problem, payers_for, usual
from bridge.core.payers.marks import Marks
from bridge.core.payers.payer import PAYERS_FILE, Payer, PayerError, PayerFile, find
from bridge.core.payers.payers import Payers, PayingEngine, Sharing
from bridge.core.payers.shared_marks import SharedMarks
from bridge.core.payers.warnings import account_warnings

__all__ = [
    "PAYERS_FILE",
    "Marks",
    "Option",
    "Payer",
    "PayerError",
    "PayerFile",
    "Payers",
    "PayingEngine",
    "SharedMarks",
    "Sharing",
    "account_warnings",
    "find",
    "list_problem",
    "payers_for",
    "usual",
]
