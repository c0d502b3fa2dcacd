"""Reads what the CLI writes during a turn as the events of an answer."""

from bridge.core.claude.reading.answer_reader import CONTINUABLE, AnswerReader
from bridge.core.claude.reading.offered_tools import calls_builtin_tool

__all__ = ["CONTINUABLE", "AnswerReader", "calls_builtin_tool"]
