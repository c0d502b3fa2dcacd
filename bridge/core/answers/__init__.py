"""Answers that run or are recorded, and those that are stored: one interface, several stores."""

from bridge.core.answers.fleet import Fleet
from bridge.core.answers.in_redis.fleet import RedisFleet
from bridge.core.answers.in_redis.responses import RedisResponseStore
from bridge.core.answers.in_redis.storage import RedisStorage
from bridge.core.answers.recordings import RecordingLimits
from bridge.core.answers.running import CLAIM_SECONDS, Answers
from bridge.core.answers.sqlite import SqliteResponseStore
from bridge.core.answers.store import (
    ConversationStore,
    ResponseStore,
    StoredConversation,
    StoredResponse,
)

__all__ = [
    "CLAIM_SECONDS",
    "Answers",
    "ConversationStore",
    "Fleet",
    "RecordingLimits",
    "RedisFleet",
    "RedisResponseStore",
    "RedisStorage",
    "ResponseStore",
    "SqliteResponseStore",
    "StoredConversation",
    "StoredResponse",
]
