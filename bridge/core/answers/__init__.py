"""Stored answers: one interface, several stores."""

from bridge.core.answers.sqlite import SqliteResponseStore
from bridge.core.answers.store import ResponseStore, StoredResponse

__all__ = ["ResponseStore", "SqliteResponseStore", "StoredResponse"]
