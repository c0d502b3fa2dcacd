"""What is wrong with an answer."""

from __future__ import annotations


class UnfitAnswerError(Exception):
    """The answer is not what was asked for. The text says what is wrong with it."""
