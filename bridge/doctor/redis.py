"""The check of the Redis in BRIDGE_REDIS_URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

from bridge.core.redis import RedisAddress, RedisLink, RedisUnavailableError
from bridge.doctor.findings import Finding, Mark
from bridge.server import Settings

_KEEPS: Final = "noeviction"


async def redis_findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """The check, if there is a Redis."""
    if settings.bridge_redis_url is not None:
        yield await redis_finding(settings.bridge_redis_url)


async def redis_finding(address: RedisAddress) -> Finding:
    """Whether Redis can be reached and written, and keeps what it is given."""
    link = RedisLink(address, quiet=True)
    try:
        await link.start()
        facts: dict[str, Any] = {"address": link.name, "up": link.up}
        if not link.up:
            found = f"{link.name} is unavailable: {link.why}"
            remedy = "Start Redis, or correct BRIDGE_REDIS_URL. Without it, servers share nothing."
            return Finding("redis", Mark.BAD, found, remedy, facts)
        try:
            await link.execute("SET", link.key("doctor"), "1", "EX", 1)
        except RedisUnavailableError as error:
            found = f"{link.name} cannot be written: {error}"
            return Finding("redis", Mark.BAD, found, "See docs/redis.md.", facts)
        return _found(link.name, await _info(link), facts)
    finally:
        await link.aclose()


async def _info(link: RedisLink) -> dict[str, Any]:
    try:
        return dict(await link.execute("INFO"))
    except RedisUnavailableError:
        # The user may have no right to ask; a bridge does not need it.
        return {}


def _found(name: str, info: dict[str, Any], facts: dict[str, Any]) -> Finding:
    version, policy = info.get("redis_version", ""), info.get("maxmemory_policy", "")
    facts |= {"version": version, "maxmemory_policy": policy}
    found = f"{name} works" + (f" (version {version})" if version else "")
    if info.get("maxmemory") and policy != _KEEPS:
        remedy = f"Set maxmemory-policy to {_KEEPS}: Redis may delete keys, limits and responses."
        return Finding("redis", Mark.WARNING, f"{found}, but evicts ({policy})", remedy, facts)
    return Finding("redis", Mark.GOOD, found, facts=facts)
