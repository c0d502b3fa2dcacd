"""redis-py behind two kinds of failures: Redis is away, or it refuses a command.

Slow to import: only the link does, once there is an address.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any, Final, TypeAlias

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterError,
    ConnectionError,
    InvalidResponse,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from bridge.core.redis.address import RedisAddress
from bridge.core.redis.script import Script

Value: TypeAlias = str | bytes | int | float

_CONNECTIONS: Final = 32
"""At most so many at a time; further commands wait."""
_SHOWN: Final = 200
"""Characters of a text of redis-py that are logged."""


class AwayError(Exception):
    """Redis cannot be reached, or the login is wrong. The text is the reason."""


class RefusedError(Exception):
    """Redis refuses the command: because of its state, of the user's rights, or of what is stored.

    Others may write to it, so a key can have another type, or text, than the bridge stores there.
    """


class RedisClient:
    """Connections to one Redis. Nothing is retried: a command is executed at most once."""

    def __init__(self, address: RedisAddress) -> None:
        self._pool = BlockingConnectionPool(
            _CONNECTIONS,
            # The link limits the time of each command, waiting for a connection included.
            timeout=None,
            connection_class=_connection_class(address),
            **_connection_options(address),
        )
        self._redis = Redis(connection_pool=self._pool)
        self._address = address
        self._resolving: asyncio.Future[Exception | None] | None = None

    async def execute(self, *command: Value) -> Any:
        """Execute a command; raises AwayError or RefusedError."""
        try:
            return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
        except ReadOnlyError as error:
            # What was the primary is a replica now: its name may lead to another one already.
            await self.drop_idle()
            raise RefusedError(_text(error)) from error
        except NoScriptError:
            # For `run`.
            raise
        except (ResponseError, ClusterError) as error:
            raise RefusedError(_text(error)) from error
        except UnicodeDecodeError as error:
            raise RefusedError("a stored value is not UTF-8") from error
        except (ConnectionError, TimeoutError, InvalidResponse, OSError) as error:
            raise AwayError(_text(error)) from error

    async def run(self, script: Script, keys: tuple[str, ...], args: tuple[Value, ...]) -> Any:
        """Run a script, which is loaded if this Redis has not run it since its start."""
        try:
            return await self.execute("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self.execute("EVAL", script.source, len(keys), *keys, *args)

    async def resolve(self) -> None:
        """Resolve the name of the host, to find out whether that is possible; raises AwayError.

        One at a time, in a thread of its own: a name server that does not answer holds a thread for
        long, and asyncio's are those in which large requests are read.
        """
        if not self._address.host:
            return
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.get_running_loop().create_future()
            threading.Thread(
                target=_resolve, args=(self._address, self._resolving), daemon=True
            ).start()
        error = await asyncio.shield(self._resolving)
        if error is not None:
            raise AwayError(_text(error)) from error

    async def drop_idle(self) -> None:
        """Close the connections that are not in use."""
        try:
            await self._pool.disconnect(inuse_connections=False)
        except (ConnectionError, TimeoutError, OSError):
            return

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _resolve(address: RedisAddress, resolved: asyncio.Future[Exception | None]) -> None:
    failure: Exception | None = None
    try:
        socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        failure = error
    with suppress(RuntimeError):  # The loop has ended.
        resolved.get_loop().call_soon_threadsafe(resolved.set_result, failure)


def _connection_class(address: RedisAddress) -> type[Any]:
    if address.path:
        return UnixDomainSocketConnection
    return SSLConnection if address.tls else Connection


def _connection_options(address: RedisAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.username or None,
        "password": address.password or None,
        "decode_responses": True,
        # JSON may contain half a character.
        "encoding_errors": "surrogatepass",
        # Every Redis speaks it, and every kind of user may.
        "protocol": 2,
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": 1.0,
    }
    if address.path:
        return {**options, "path": address.path}
    options |= {"host": address.host, "port": address.port, "socket_keepalive": True}
    if address.tls:
        options |= {
            "ssl_ca_certs": address.ca_certs or None,
            "ssl_certfile": address.certfile or None,
            "ssl_keyfile": address.keyfile or None,
        }
    return options


def _text(error: Exception) -> str:
    cause = error.__context__
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError | socket.gaierror):
        # Without the address, which the caller has.
        return os.strerror(cause.errno) if cause.errno else "cannot connect"
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:_SHOWN].rstrip(".")
