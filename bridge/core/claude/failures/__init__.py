"""Maps the CLI's failure reports to errors for callers."""

from bridge.core.claude.failures.reader import FailureReader

__all__ = ["FailureReader"]
