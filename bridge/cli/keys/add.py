"""`bridge keys add`."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from bridge.cli.common import fail
from bridge.cli.keys.shared import (
    NO_OWNER,
    check_use,
    expiry,
    failing,
    is_given,
    key_store,
    named,
)


# long: each option is a parameter.
def add(
    name: Annotated[str, typer.Argument(help="Name of the key, such as laptop.")],
    mine: Annotated[
        bool, typer.Option("--mine", help="The key is your own: your subscription may serve it.")
    ] = False,
    payer: Annotated[
        list[str] | None,
        typer.Option(
            help="Who pays for its requests (bridge payers list): one name or several in order, "
            "comma-separated. Without --mine, not a subscription login."
        ),
    ] = None,
    overflow: Annotated[
        bool,
        typer.Option(
            "--overflow",
            help="Let a billed payer of the list answer when the login before it cannot.",
        ),
    ] = False,
    admin: Annotated[
        bool,
        typer.Option(
            "--admin", help="Also grant access to the pool state, metrics and recent requests."
        ),
    ] = False,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Concurrent requests.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests per minute.")] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, help="Tokens per day (UTC), prompts and answers together.")
    ] = None,
    tokens_per_month: Annotated[
        int | None, typer.Option(min=1, help="The same, per month (UTC).")
    ] = None,
    usd_per_day: Annotated[
        float | None, typer.Option(help="US dollars per day (UTC), at list price.")
    ] = None,
    usd_per_month: Annotated[float | None, typer.Option(help="The same, per month (UTC).")] = None,
    warn_at: Annotated[
        int, typer.Option(min=1, max=100, help="Percentage of these from which the log warns.")
    ] = 80,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Only count tokens and dollars: refuse nothing.")
    ] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Models that the key may use, comma-separated. Repeatable."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="90d|2027-01-31", help="When it expires; a day includes its end."),
    ] = None,
) -> None:
    """Create a key and print its secret, which is shown only once."""
    from bridge.core.access import KeyLimits, KeyOwner, KeyScope, KeyStoreError, KeyUse

    payers, models = named("--payer", payer), named("--model", model)
    if not (mine or payers):
        fail(NO_OWNER)
    use = KeyUse(KeyOwner.MINE if mine else KeyOwner.OTHER, payers, overflow)
    check_use(use)
    scope = KeyScope.ADMIN if admin else KeyScope.COMPLETE
    if is_given(name):
        fail(f"BRIDGE_API_KEYS already has a key named {name}: choose another name.")
    store, expires_at = key_store(), expiry(expires)
    with failing("No key was created"):
        limits = KeyLimits(
            concurrent,
            per_minute,
            tokens_per_day,
            models,
            tokens_per_month,
            usd_per_day,
            usd_per_month,
            warn_at,
            shadow,
        )
        secret = store.add(name, scope, limits, use, expires_at)
    # Alone on stdout, for scripts.
    typer.echo(secret)
    typer.echo(
        f"Created key {name} (scope {scope}); the secret is not shown again. "
        "The server now requires a key.",
        err=True,
    )
    # Another process may have revoked it by now.
    with suppress(KeyStoreError, KeyError):
        key = store.ring().get(name)
        if key.number > 1:
            typer.echo(
                "Earlier keys had this name: in logs, metrics and usage, this one is "
                f"{key.caller}.",
                err=True,
            )
