"""`bridge keys list` and `revoke`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.keys.shared import details, failing, in_place, key_store

if TYPE_CHECKING:
    from bridge.core.access import Key


def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the keys, without their secrets."""
    store, now = key_store(), time.time()
    with failing("The keys were not listed"):
        found, used = store.read(), store.used()
    if as_json:
        typer.echo(json.dumps([_as_json(key, used.get(key.id), now) for key in found], indent=2))
        return
    if not found:
        typer.echo(
            f"No keys in {in_place(store)}. Create one with `bridge keys add NAME --mine`.",
            err=True,
        )
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        made = time.strftime("%Y-%m-%d", time.gmtime(key.created_at))
        typer.echo(
            f"{key.name:{width}}  {key.scope:8}  {made}  {_last_use(used.get(key.id)):21}  "
            f"{details(key, now)}"
        )


def revoke(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Revoke a key: a running server refuses it at once."""
    store = key_store()
    with failing("No key was revoked", name):
        left = store.revoke(name)
    typer.echo(f"Revoked key {name}.")
    if not left:
        typer.echo(
            f"No keys left in {in_place(store)}: until you add one, the server refuses every "
            f"request. To serve without keys, {store.removal}.",
            err=True,
        )


def _last_use(at: int | None) -> str:
    if at is None:
        return "never used"
    return time.strftime("used %Y-%m-%d %H:%M", time.gmtime(at))


def _as_json(key: Key, used_at: int | None, now: float) -> dict[str, object]:
    return {
        "name": key.name,
        "caller": key.caller,
        "id": key.id,
        "scope": key.scope,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": used_at,
        "old_secrets_until": [old.until for old in key.old_secrets if old.until > now],
        **asdict(key.limits),
        **asdict(key.use),
    }
