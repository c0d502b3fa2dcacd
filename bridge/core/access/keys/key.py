"""API keys and `BRIDGE_API_KEYS`. Pure.

Only the SHA-256 of a secret is stored. A slow hash would add nothing: a generated secret has 256
random bits, too many to guess at any cost per try. Secrets chosen by a user (`BRIDGE_API_KEYS`) are
in the environment in clear text anyway; short ones are refused.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bridge.core.access.keys.times import shown_time

SECRET_PREFIX: Final = "sk-bridge-"
MIN_SECRET_LENGTH: Final = 16
"""Of a secret chosen by a user."""

MAX_COUNT: Final = 2**53 - 1
"""The greatest limit of a count: JSON and Redis's scripts know no greater whole numbers."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_GIVEN: Final = re.compile(
    rf"(?P<name>{_NAME.pattern})(?P<admin>:admin)?(?P<mine>:mine)?=(?P<secret>.*)"
)
_VISIBLE: Final = re.compile(r"[!-~]+")
_ID_DIGITS: Final = 32
_NUMBERED: Final = "#"
"""No name contains it."""


class KeyScope(StrEnum):
    """What a key may do; ADMIN includes COMPLETE."""

    COMPLETE = "complete"
    ADMIN = "admin"

    def includes(self, needed: KeyScope) -> bool:
        """Return whether this scope is enough if `needed` is required."""
        return self is KeyScope.ADMIN or needed is KeyScope.COMPLETE


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of a key. None means unlimited; an empty `models` means all models."""

    concurrent: int | None = None
    """Concurrent requests."""
    per_minute: int | None = None
    """Requests started within any 60 seconds."""
    tokens_per_day: int | None = None
    """Tokens of prompts and answers, cached ones included, per UTC day."""
    models: tuple[str, ...] = ()
    """The models that the key may use, by any of their names."""
    tokens_per_month: int | None = None
    """The same, per UTC month."""
    usd_per_day: float | None = None
    """US dollars at list price, per UTC day."""
    usd_per_month: float | None = None
    """The same, per UTC month."""
    warn_at: int = 80
    """The percentage of a budget from which the log warns."""
    shadow: bool = False
    """Whether budgets are counted only: a request over one is not refused."""

    def __post_init__(self) -> None:
        for name in ("concurrent", "per_minute", "tokens_per_day", "tokens_per_month"):
            value = getattr(self, name)
            if value is None:
                continue
            if type(value) is not int or not 1 <= value <= MAX_COUNT:
                raise ValueError(
                    f"{name} must be a whole number of at least 1, at most {MAX_COUNT}"
                )
        for name in ("usd_per_day", "usd_per_month"):
            usd = getattr(self, name)
            if usd is not None and not (type(usd) in (int, float) and 0 < usd < math.inf):
                raise ValueError(f"{name} must be a number above 0")
        if type(self.warn_at) is not int or not 1 <= self.warn_at <= 100:
            raise ValueError("warn_at must be a whole number from 1 to 100")
        if type(self.shadow) is not bool:
            raise ValueError("shadow must be true or false")

    def has_budget(self, unit: str) -> bool:
        """Whether there is a budget in this unit, `tokens` or `usd`."""
        return any(getattr(self, f"{unit}_per_{period}") is not None for period in ("day", "month"))


class KeyOwner(StrEnum):
    """Whose requests a key is for."""

    MINE = "mine"
    """The owner's of the server: a subscription login may serve them."""
    OTHER = "other"
    """Someone else's: a subscription login may not."""
    UNMARKED = "unmarked"
    """Not said, as by earlier versions: counts as the owner's."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Whose requests a key is for, and who pays for them."""

    owner: KeyOwner = KeyOwner.UNMARKED
    payers: tuple[str, ...] = ()
    """In order; empty means the owner's usual ones."""
    overflow: bool = False
    """Whether a billed payer of the list may answer when the login before it cannot."""

    @property
    def mine(self) -> bool:
        """Whether it counts as the owner's."""
        return self.owner is not KeyOwner.OTHER


OWNERS_USE: Final = KeyUse(KeyOwner.MINE)


@dataclass(frozen=True, slots=True)
class OldSecret:
    """A secret that has been replaced."""

    digest: str
    until: int
    """When it ends, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    name: str
    digest: str
    """The SHA-256 of the secret, in hexadecimal digits."""
    scope: KeyScope = KeyScope.COMPLETE
    limits: KeyLimits = KeyLimits()
    created_at: int = 0
    """In Unix seconds; 0 if unknown."""
    use: KeyUse = KeyUse()
    number: int = 1
    """The first key of its name has 1, the next one, after that was revoked, 2."""
    id: str = ""
    """It stays the same whatever changes; by default the start of the first secret's digest."""
    expires_at: int | None = None
    """In Unix seconds."""
    old_secrets: tuple[OldSecret, ...] = ()
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version, which are stored again as they are."""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", self.digest[:_ID_DIGITS])

    @property
    def caller(self) -> str:
        """What its requests are counted by: the name, which a number makes unique for ever."""
        return self.name if self.number == 1 else f"{self.name}{_NUMBERED}{self.number}"

    @property
    def digests(self) -> tuple[str, ...]:
        """Of its secret and of the old ones, valid or not."""
        return (self.digest, *(old.digest for old in self.old_secrets))

    def expired(self, now: float) -> bool:
        """Whether it has expired; `now` is in Unix seconds."""
        return self.expires_at is not None and self.expires_at <= now

    def valid_digests(self, now: float) -> Iterator[str]:
        """Yield those of the secrets that are valid; `now` is in Unix seconds."""
        if not self.expired(now):
            yield self.digest
            yield from (old.digest for old in self.old_secrets if old.until > now)

    def ended(self, digest: str, now: float) -> str:
        """Return why the secret with this digest is no longer valid, and the remedy; empty if it
        is. `now` is in Unix seconds.
        """
        if self.expires_at is not None and self.expires_at <= now:
            return (
                f"This API key expired on {shown_time(self.expires_at)}. The operator of this "
                f"server can renew it: bridge keys edit {self.name} --expires 90d."
            )
        if digest == self.digest or digest in self.valid_digests(now):
            return ""
        return (
            "This secret of the API key has been replaced. Use the new one that bridge keys "
            f"rotate {self.name} printed."
        )

    def ends(self) -> Iterator[int]:
        """Yield when the key or one of its secrets ends, in Unix seconds."""
        if self.expires_at is not None:
            yield self.expires_at
        yield from (old.until for old in self.old_secrets)


class KeyStoreError(Exception):
    """The stored keys cannot be used. The text is one line: the reason and the remedy."""


def has_name(caller: str, name: str) -> bool:
    """Whether a caller is a key with this name, the present one or one that was revoked."""
    return caller == name or caller.startswith(f"{name}{_NUMBERED}")


def digest_of(secret: str) -> str:
    """Return the digest that is stored for a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def check_name(name: str) -> str:
    """Return the name of a key; raises ValueError if it is invalid."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a key's name has 1 to 64 letters, digits, dots, dashes and underscores, "
            "and starts with a letter or a digit"
        )
    return name


def parse_given(text: str) -> tuple[Key, ...]:
    """Parse the keys of `BRIDGE_API_KEYS`: `secret`, `name=secret` or `name:admin:mine=secret`.

    They are separated by commas. Raises ValueError, which contains no part of any secret.
    """
    keys: list[Key] = []
    for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        match = _GIVEN.fullmatch(entry)
        name, secret = (match["name"], match["secret"]) if match else (f"key-{number}", entry)
        if len(secret) < MIN_SECRET_LENGTH or not _VISIBLE.fullmatch(secret):
            raise ValueError(
                f"key number {number} needs a secret of at least {MIN_SECRET_LENGTH} visible "
                "ASCII characters (a secret that contains = needs a name before it: name=secret)"
            )
        scope = KeyScope.ADMIN if match and match["admin"] else KeyScope.COMPLETE
        use = OWNERS_USE if match and match["mine"] else KeyUse()
        keys.append(Key(name, digest_of(secret), scope, use=use))
    if not keys:
        raise ValueError("it contains no key; unset it to serve without keys")
    if len({key.name for key in keys}) < len(keys):
        raise ValueError("two keys have the same name")
    if len({key.digest for key in keys}) < len(keys):
        raise ValueError("two keys have the same secret")
    return tuple(keys)
