"""`bridge keys edit` and `rotate`: they change a key, which stays the same one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.common import fail
from bridge.cli.keys.shared import (
    NO_OWNER,
    check_use,
    details,
    expiry,
    failing,
    key_store,
    named,
    not_given,
)

if TYPE_CHECKING:
    from bridge.core.access import Key, KeyUse

_NONE = "none"
_DIGITS = 16


def _limit(help: str) -> Any:
    return typer.Option(metavar="N|none", help=help)


# long: each option is a parameter.
def edit(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    mine: Annotated[
        bool | None,
        typer.Option("--mine/--not-mine", help="Whether the key is your own."),
    ] = None,
    payer: Annotated[
        list[str] | None,
        typer.Option(
            help="Who pays for its requests, as in bridge keys add; none: your usual payers."
        ),
    ] = None,
    overflow: Annotated[
        bool | None,
        typer.Option(
            "--overflow/--no-overflow",
            help="Whether a billed payer may answer when the login before it cannot.",
        ),
    ] = None,
    admin: Annotated[
        bool | None, typer.Option("--admin/--no-admin", help="Whether it has the scope admin.")
    ] = None,
    concurrent: Annotated[str | None, _limit("Concurrent requests.")] = None,
    per_minute: Annotated[str | None, _limit("Requests per minute.")] = None,
    tokens_per_day: Annotated[str | None, _limit("Tokens per day (UTC).")] = None,
    tokens_per_month: Annotated[str | None, _limit("Tokens per month (UTC).")] = None,
    usd_per_day: Annotated[str | None, _limit("US dollars per day (UTC).")] = None,
    usd_per_month: Annotated[str | None, _limit("US dollars per month (UTC).")] = None,
    warn_at: Annotated[
        int | None, typer.Option(min=1, max=100, help="Percentage from which the log warns.")
    ] = None,
    shadow: Annotated[
        bool | None,
        typer.Option("--shadow/--no-shadow", help="Whether to refuse nothing over these budgets."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model that the key may use, instead of the present ones; none: all."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="90d|2027-01-31|none", help="When it expires; a day includes its end"),
    ] = None,
) -> None:
    """Change a key's limits, owner, payers or expiry. Its secret and the rest stay as they are."""
    not_given(name)
    limits: dict[str, Any] = {
        "concurrent": _whole("--concurrent", concurrent),
        "per_minute": _whole("--per-minute", per_minute),
        "tokens_per_day": _whole("--tokens-per-day", tokens_per_day),
        "tokens_per_month": _whole("--tokens-per-month", tokens_per_month),
        "usd_per_day": _number("--usd-per-day", usd_per_day),
        "usd_per_month": _number("--usd-per-month", usd_per_month),
        "warn_at": warn_at,
        "shadow": shadow,
        "models": _names("--model", model),
    }
    use = {"mine": mine, "payers": _names("--payer", payer), "overflow": overflow}
    wanted: dict[str, Any] = {
        "limits": {field: value for field, value in limits.items() if value is not None},
        "use": {field: value for field, value in use.items() if value is not None},
        "admin": admin,
        "expires_at": _NONE if expires == _NONE else expiry(expires),
    }
    if all(value is None or value == {} for value in wanted.values()):
        fail("Say what to change, such as --per-minute 30 or --expires none (bridge keys edit -h).")
    with failing(f"Key {name} was not changed", name):
        key = key_store().edit(name, lambda key: _edited(key, wanted))
    typer.echo(f"Key {name}: {details(key, time.time())}. A running server applies it at once.")


def rotate(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    overlap: Annotated[
        str, typer.Option(help="How long the old secret stays valid, such as 7d or 0.")
    ] = "24h",
) -> None:
    """Give a key a new secret and print it. All else about the key stays as it is."""
    from bridge.core.access import seconds_of, shown_time

    not_given(name)
    try:
        seconds = seconds_of(overlap)
    except ValueError as error:
        fail(f"--overlap: {error}.")
    with failing(f"Key {name} was not changed", name):
        secret = key_store().rotate(name, seconds)
    # Alone on stdout, for scripts.
    typer.echo(secret)
    until = f"is valid until {shown_time(time.time() + seconds)}" if seconds else "is refused now"
    typer.echo(
        f"Key {name} has a new secret, which is not shown again. The old one {until}.", err=True
    )


def _edited(key: Key, wanted: Mapping[str, Any]) -> Key:
    """Return a key with the changes; raises ValueError."""
    from bridge.core.access import KeyScope

    limits: dict[str, Any] = {
        name: None if value == _NONE else value for name, value in wanted["limits"].items()
    }
    if limits.get("models", ()) is None:
        limits["models"] = ()
    expires_at = wanted["expires_at"]
    scope = {None: key.scope, True: KeyScope.ADMIN, False: KeyScope.COMPLETE}[wanted["admin"]]
    return replace(
        key,
        limits=replace(key.limits, **limits),
        use=_used(key.use, wanted["use"]) if wanted["use"] else key.use,
        scope=scope,
        expires_at={None: key.expires_at, _NONE: None}.get(expires_at, expires_at),
    )


def _used(use: KeyUse, wanted: Mapping[str, Any]) -> KeyUse:
    """Return whose a key is then, and who pays; fails if that does not fit."""
    from bridge.core.access import KeyOwner

    owner = use.owner
    payers = wanted.get("payers", use.payers)
    payers = () if payers == _NONE else payers
    if "mine" in wanted:
        owner = KeyOwner.MINE if wanted["mine"] else KeyOwner.OTHER
    elif owner is KeyOwner.UNMARKED and payers:
        # As in `bridge keys add`.
        owner = KeyOwner.OTHER
    if owner is not KeyOwner.MINE and not payers:
        fail(NO_OWNER)
    changed = replace(
        use, owner=owner, payers=payers, overflow=wanted.get("overflow", use.overflow)
    )
    check_use(changed)
    return changed


def _names(option: str, texts: list[str] | None) -> tuple[str, ...] | str | None:
    names = named(option, texts)
    return _NONE if names == (_NONE,) else names or None


def _whole(option: str, text: str | None) -> int | str | None:
    if text is None or text == _NONE:
        return text
    # More digits are no limit, and too many of them no number to Python.
    if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS or int(text) < 1:
        shown = text[: _DIGITS + 1]
        fail(f"{option} {shown}: write a whole number of at least 1, or none.")
    return int(text)


def _number(option: str, text: str | None) -> float | str | None:
    if text is None or text == _NONE:
        return text
    try:
        return float(text)
    except ValueError:
        fail(f"{option} {text}: write a number above 0, or none.")
