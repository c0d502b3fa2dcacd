"""Reads what the CLI writes during a turn as the events of an answer."""

from bridge.core.claude.reading.answer_reader import CONTINUABLE, AnswerReader
from bridge.core.claude.reading.call_usage import UnseenCalls, added
from bridge.core.claude.reading.offered_tools import calls_builtin_tool
from bridge.core.claude.reading.spending import Spending, Spent, spent_in, spent_in_report

__all__ = [
    "CONTINUABLE",
    "AnswerReader",
    "Spending",
    "Spent",
    "UnseenCalls",
    "added",
    "calls_builtin_tool",
    "spent_in",
    "spent_in_report",
]
