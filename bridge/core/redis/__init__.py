"""The link to Redis, where the replicas of a fleet keep what they share."""

from bridge.core.redis.address import RedisAddress, parse_redis_url
from bridge.core.redis.link import RedisLink
from bridge.core.redis.script import Script
from bridge.core.redis.unavailable import RedisUnavailableError

__all__ = [
    "RedisAddress",
    "RedisLink",
    "RedisUnavailableError",
    "Script",
    "parse_redis_url",
]
