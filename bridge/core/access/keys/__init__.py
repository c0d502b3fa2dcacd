"""API keys, and where they are stored."""

from bridge.core.access.keys.file import KEYS_FILE, USED_FILE, KeyFile
from bridge.core.access.keys.followed import FollowedKeys
from bridge.core.access.keys.key import (
    OWNERS_USE,
    SECRET_PREFIX,
    Key,
    KeyLimits,
    KeyOwner,
    KeyScope,
    KeyStoreError,
    KeyUse,
    OldSecret,
    digest_of,
    has_name,
    parse_given,
)
from bridge.core.access.keys.last_used import LastUsed
from bridge.core.access.keys.redis_keys import RedisKeys
from bridge.core.access.keys.ring import KeyRing
from bridge.core.access.keys.store import OVERLAP_SECONDS, KeySource, KeyStore
from bridge.core.access.keys.times import expiry_of, seconds_of, shown_time

__all__ = [
    "KEYS_FILE",
    "OVERLAP_SECONDS",
    "OWNERS_USE",
    "SECRET_PREFIX",
    "USED_FILE",
    "FollowedKeys",
    "Key",
    "KeyFile",
    "KeyLimits",
    "KeyOwner",
    "KeyRing",
    "KeyScope",
    "KeySource",
    "KeyStore",
    "KeyStoreError",
    "KeyUse",
    "LastUsed",
    "OldSecret",
    "RedisKeys",
    "digest_of",
    "expiry_of",
    "has_name",
    "parse_given",
    "seconds_of",
    "shown_time",
]
