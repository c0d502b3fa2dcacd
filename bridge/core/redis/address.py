"""Where Redis is: the URL in BRIDGE_REDIS_URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_PORT: Final = 6379
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FORMS: Final = (
    "redis://HOST:PORT/DATABASE, rediss://USER:PASSWORD@HOST:PORT/DATABASE or "
    "unix:///PATH?db=DATABASE"
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis listens, and how to log in there."""

    host: str = ""
    port: int = _PORT
    path: str = ""
    """Its Unix socket; empty for TCP."""
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_certs: str = ""
    """A file of trusted CAs; empty for those of the system."""
    certfile: str = ""
    """The client's certificate; empty for none."""
    keyfile: str = ""

    def __str__(self) -> str:
        """The address for logs: without user name and password."""
        database = f", database {self.database}" if self.database else ""
        if self.path:
            return f"{self.path}{database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{database}"


def parse_redis_url(url: str) -> RedisAddress:
    """Parse a URL; raises ValueError, whose text never contains the password."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        # The text of the error may repeat a part of the password.
        raise ValueError(
            f"not a valid URL; expected {_FORMS}, with special characters of the password "
            "percent-encoded ('#' is %23)"
        ) from None
    if parts.fragment:
        raise ValueError("unexpected '#'; in a password, it is %23")
    database, files = _query(parts)
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    match parts.scheme:
        case "unix":
            path = unquote(parts.path)
            if parts.hostname or not Path(path).is_absolute():
                raise ValueError("the path of a Unix socket must be absolute: unix:///PATH")
            if files:
                raise ValueError(f"{min(files)} requires a rediss:// URL")
            return RedisAddress(
                path=path, database=database or 0, username=username, password=password
            )
        case "redis" | "rediss":
            if not parts.hostname:
                raise ValueError(f"no host; expected {_FORMS}")
            in_path = _database(parts.path.strip("/"))
            tls = parts.scheme == "rediss"
            if files and not tls:
                raise ValueError(f"{min(files)} requires a rediss:// URL")
            return RedisAddress(
                unquote(parts.hostname),
                _PORT if port is None else port,
                database=database if database is not None else in_path or 0,
                username=username,
                password=password,
                tls=tls,
                ca_certs=files.get("ssl_ca_certs", ""),
                certfile=files.get("ssl_certfile", ""),
                keyfile=files.get("ssl_keyfile", ""),
            )
        case _:
            raise ValueError(f"expected {_FORMS}")


def _query(parts: SplitResult) -> tuple[int | None, dict[str, str]]:
    """The database, if it is in the query, and the files for TLS."""
    database: int | None = None
    files: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "db":
            database = _database(value)
        elif name in _FILES:
            if not Path(value).is_file():
                raise ValueError(f"{name}: the file {value} does not exist")
            files[name] = value
        else:
            known = ", ".join(("db", *_FILES))
            # The name may be the rest of a password that has a '?' in it.
            raise ValueError(f"unknown parameter after '?'; known are {known}")
    return database, files


def _database(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError("the database must be a number, as in redis://HOST:PORT/0")
    return int(text)
