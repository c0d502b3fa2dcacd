"""Stored answers and conversations: one interface each, several stores."""

from bridge.core.answers.sqlite import SqliteResponseStore
from bridge.core.answers.store import (
    ConversationStore,
    ResponseStore,
    StoredConversation,
    StoredResponse,
)

__all__ = [
    "ConversationStore",
    "ResponseStore",
    "SqliteResponseStore",
    "StoredConversation",
    "StoredResponse",
]
