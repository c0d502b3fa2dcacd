"""Shared by the commands: the stored keys, and how a key is checked and shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bridge.cli.common import fail, settings_from

if TYPE_CHECKING:
    from bridge.core.access import Key, KeyLimits, KeyStore, KeyUse

NO_OWNER = (
    "Say whose key it is: --mine if it is your own, or --payer PAYER if it is someone "
    "else's. A subscription login serves its owner only (docs/accounts.md)."
)


def key_store() -> KeyStore:
    """Return where the keys are stored."""
    from bridge.server import key_store as store_of

    return store_of(settings_from({}))


@contextmanager
def failing(what: str, name: str = "") -> Iterator[None]:
    """Print the errors of the stored keys, and what did not happen; exit with status 1."""
    from bridge.core.access import KeyStoreError

    try:
        yield
    except KeyStoreError as error:
        fail(str(error))
    except ValueError as error:
        fail(f"{what}: {error}.")
    except KeyError:
        fail(
            f"No key named {name!r} in {in_place(key_store())}. `bridge keys list` shows all keys."
        )


def in_place(store: KeyStore) -> str:
    """Return where keys are, in the middle of a sentence."""
    return store.place.replace("The ", "the ", 1)


def is_given(name: str) -> bool:
    """Whether BRIDGE_API_KEYS has a key with this name."""
    return any(key.name == name for key in settings_from({}).bridge_api_keys)


def not_given(name: str) -> None:
    """Fail for a key that is set in the environment."""
    if is_given(name):
        fail(
            f"{name} is a key of BRIDGE_API_KEYS: if it is yours, write {name}:mine=SECRET there. "
            "For limits, or for someone else, create a key: bridge keys add NAME."
        )


def named(option: str, texts: list[str] | None) -> tuple[str, ...]:
    """Return the names of a repeatable option that also takes commas; fails if one is empty."""
    names = tuple(name.strip() for text in texts or () for name in text.split(","))
    if "" in names:
        fail(f"{option}: a name is empty.")
    return names


def check_use(use: KeyUse) -> None:
    """Fail if a key cannot have these payers."""
    from bridge.core.contract import DEFAULT_PAYER
    from bridge.core.payers import Option, PayerError, PayerFile, list_problem

    try:
        found = PayerFile(settings_from({}).bridge_state_dir).read()
    except PayerError as error:
        fail(str(error))
    options = [Option(p.name, p.kind.subscription, p.overflow) for p in found]
    # Without a list, the server sees at each request whether its account is a subscription.
    problem = list_problem(use, options or [Option(DEFAULT_PAYER, subscription=False)])
    if problem:
        fail(f"--payer: {problem}.")


def expiry(text: str | None) -> int | None:
    """Parse when a key expires; fails if that is wrong."""
    from bridge.core.access import expiry_of

    if text is None:
        return None
    try:
        return expiry_of(text, time.time())
    except ValueError as error:
        fail(f"--expires: {error}.")


def details(key: Key, now: float) -> str:
    """Return a key's owner, payers, limits and ends in one line; `now` is in Unix seconds."""
    counted = f"counted as {key.caller}" if key.caller != key.name else ""
    parts = (_use(key.use), _limits(key.limits), *_ends(key, now), counted)
    return ", ".join(filter(None, parts))


def _use(use: KeyUse) -> str:
    whose = {
        "mine": "yours",
        "other": "someone else's",
        "unmarked": "not marked (bridge keys edit)",
    }
    payer = f", payer {', then '.join(use.payers)}" if use.payers else ""
    return whose[use.owner] + payer + (", overflow" if use.overflow else "")


def _limits(limits: KeyLimits) -> str:
    values = {
        "concurrent": limits.concurrent,
        "per minute": limits.per_minute,
        "tokens per day": limits.tokens_per_day,
        "tokens per month": limits.tokens_per_month,
        "USD per day": limits.usd_per_day,
        "USD per month": limits.usd_per_month,
    }
    parts = [f"{value} {unit}" for unit, value in values.items() if value is not None]
    shadow = ["shadow"] if limits.shadow else []
    return ", ".join([*parts, *shadow, *(f"model {model}" for model in limits.models)])


def _ends(key: Key, now: float) -> Iterator[str]:
    from bridge.core.access import shown_time

    if key.expires_at is not None:
        yield f"{'expired' if key.expired(now) else 'expires'} {shown_time(key.expires_at)}"
    for old in key.old_secrets:
        if old.until > now:
            yield f"old secret valid until {shown_time(old.until)}"
