"""API keys: authentication, scopes and limits."""

from bridge.core.access.authentication import ANYONE, Access, Grant, bearer
from bridge.core.access.fair_turns import FairTurns
from bridge.core.access.keys import (
    KEYS_FILE,
    OWNERS_USE,
    Key,
    KeyFile,
    KeyFileError,
    KeyLimits,
    KeyOwner,
    KeyScope,
    KeyUse,
    parse_given,
)
from bridge.core.access.local_counts import LocalCounts
from bridge.core.access.quotas import Quotas
from bridge.core.access.redis_counts import RedisCounts
from bridge.core.access.spending import USAGE_FILE
from bridge.core.access.uploads import Upload, Uploads

__all__ = [
    "ANYONE",
    "KEYS_FILE",
    "OWNERS_USE",
    "USAGE_FILE",
    "Access",
    "FairTurns",
    "Grant",
    "Key",
    "KeyFile",
    "KeyFileError",
    "KeyLimits",
    "KeyOwner",
    "KeyScope",
    "KeyUse",
    "LocalCounts",
    "Quotas",
    "RedisCounts",
    "Upload",
    "Uploads",
    "bearer",
    "parse_given",
]
