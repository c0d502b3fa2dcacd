"""From what the CLI writes of a failure to the error that a caller may read."""

from bridge.core.claude.failures.reader import FailureReader

__all__ = ["FailureReader"]
