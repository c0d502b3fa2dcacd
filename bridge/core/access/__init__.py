"""API keys: authentication, scopes and limits."""

from bridge.core.access.authentication import ANYONE, Access, Grant, bearer
from bridge.core.access.fair_turns import FairTurns
from bridge.core.access.keys import (
    KEYS_FILE,
    OVERLAP_SECONDS,
    OWNERS_USE,
    USED_FILE,
    FollowedKeys,
    Key,
    KeyFile,
    KeyLimits,
    KeyOwner,
    KeyScope,
    KeySource,
    KeyStore,
    KeyStoreError,
    KeyUse,
    RedisKeys,
    expiry_of,
    has_name,
    parse_given,
    seconds_of,
    shown_time,
)
from bridge.core.access.local_counts import LocalCounts
from bridge.core.access.quotas import Quotas
from bridge.core.access.redis_counts import RedisCounts
from bridge.core.access.spending import USAGE_FILE
from bridge.core.access.uploads import Upload, Uploads

__all__ = [
    "ANYONE",
    "KEYS_FILE",
    "OVERLAP_SECONDS",
    "OWNERS_USE",
    "USAGE_FILE",
    "USED_FILE",
    "Access",
    "FairTurns",
    "FollowedKeys",
    "Grant",
    "Key",
    "KeyFile",
    "KeyLimits",
    "KeyOwner",
    "KeyScope",
    "KeySource",
    "KeyStore",
    "KeyStoreError",
    "KeyUse",
    "LocalCounts",
    "Quotas",
    "RedisCounts",
    "RedisKeys",
    "Upload",
    "Uploads",
    "bearer",
    "expiry_of",
    "has_name",
    "parse_given",
    "seconds_of",
    "shown_time",
]
