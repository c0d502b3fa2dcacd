"""`bridge keys add | mark | list | revoke`: the file of hashed keys, which a server follows."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.common import fail, settings_from

if TYPE_CHECKING:
    from bridge.core.access import Key, KeyFile, KeyLimits, KeyUse

keys = typer.Typer(help="Create, mark, list and revoke API keys.", no_args_is_help=True)


_Mine = Annotated[
    bool, typer.Option("--mine", help="The key is your own: your subscription may serve it.")
]
_Payer = Annotated[
    list[str] | None,
    typer.Option(
        help="Who pays for its requests (bridge payers list): one name or several in order, "
        "comma-separated. Without --mine, not a subscription login."
    ),
]
_Overflow = Annotated[
    bool,
    typer.Option(
        "--overflow", help="Let a billed payer of the list answer when the login before it cannot."
    ),
]


# long: each option is a parameter.
@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the key, such as laptop.")],
    mine: _Mine = False,
    payer: _Payer = None,
    overflow: _Overflow = False,
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
        list[str] | None, typer.Option(help="Model that the key may use. Repeatable.")
    ] = None,
) -> None:
    """Create a key and print its secret, which is shown only once."""
    from bridge.core.access import KeyFileError, KeyLimits, KeyScope

    file, use = _file(), _use(mine=mine, payers=payer, overflow=overflow)
    try:
        limits = KeyLimits(
            concurrent,
            per_minute,
            tokens_per_day,
            tuple(model or ()),
            tokens_per_month,
            usd_per_day,
            usd_per_month,
            warn_at,
            shadow,
        )
    except ValueError as error:
        fail(f"No key was created: {error}.")
    scope = KeyScope.ADMIN if admin else KeyScope.COMPLETE
    if any(key.name == name for key in settings_from({}).bridge_api_keys):
        fail(f"BRIDGE_API_KEYS already has a key named {name}: choose another name.")
    try:
        secret = file.add(name, scope, limits, use)
    except KeyFileError as error:
        fail(str(error))
    except ValueError as error:
        fail(f"No key was created: {error}.")
    # Alone on stdout, for scripts.
    typer.echo(secret)
    typer.echo(
        f"Created key {name} (scope {scope}); the secret is not shown again. "
        "The server now requires a key.",
        err=True,
    )


@keys.command()
def mark(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    mine: _Mine = False,
    payer: _Payer = None,
    overflow: _Overflow = False,
) -> None:
    """Say whose requests an existing key is for, and who pays for them."""
    from bridge.core.access import KeyFileError

    if any(key.name == name for key in settings_from({}).bridge_api_keys):
        fail(
            f"{name} is a key of BRIDGE_API_KEYS: if it is yours, write {name}:mine=SECRET there. "
            "For someone else, create a key: bridge keys add NAME --payer PAYER."
        )
    file, use = _file(), _use(mine=mine, payers=payer, overflow=overflow)
    try:
        file.mark(name, use)
    except KeyFileError as error:
        fail(str(error))
    except KeyError:
        fail(f"No key named {name!r} in {file.path}. `bridge keys list` shows all keys.")
    typer.echo(f"Key {name}: {_shown_use(use)}. A running server applies it at once.")


@keys.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the keys, without their secrets."""
    from bridge.core.access import KeyFileError

    file = _file()
    try:
        found = file.read()
    except KeyFileError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps([_as_json(key) for key in found], indent=2))
        return
    if not found:
        typer.echo(
            f"No keys in {file.path}. Create one with `bridge keys add NAME --mine`.", err=True
        )
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        made = time.strftime("%Y-%m-%d", time.gmtime(key.created_at))
        typer.echo(f"{key.name:{width}}  {key.scope:8}  {made}  {_details(key)}")


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Revoke a key: a running server refuses it at once."""
    from bridge.core.access import KeyFileError

    file = _file()
    try:
        left = file.revoke(name)
    except KeyFileError as error:
        fail(str(error))
    except KeyError:
        fail(f"No key named {name!r} in {file.path}. `bridge keys list` shows all keys.")
    typer.echo(f"Revoked key {name}.")
    if not left:
        typer.echo(
            f"No keys left in {file.path}: until you add one, the server refuses every request. "
            "To serve without keys, stop the server, delete that file and start it again.",
            err=True,
        )


def _file() -> KeyFile:
    from bridge.core.access import KeyFile

    return KeyFile(settings_from({}).keys_file)


def _as_json(key: Key) -> dict[str, object]:
    return {
        "name": key.name,
        "scope": key.scope,
        "created_at": key.created_at,
        **asdict(key.limits),
        **asdict(key.use),
    }


def _use(*, mine: bool, payers: list[str] | None, overflow: bool) -> KeyUse:
    """Whose requests a key is for, by the options of a command; fails if they do not fit."""
    from bridge.core.access import KeyOwner, KeyUse
    from bridge.core.contract import DEFAULT_PAYER
    from bridge.core.payers import Option, PayerError, PayerFile, list_problem

    named = tuple(name.strip() for each in payers or () for name in each.split(","))
    if not (mine or named):
        fail(
            "Say whose key it is: --mine if it is your own, or --payer PAYER if it is someone "
            "else's. A subscription login serves its owner only (docs/accounts.md)."
        )
    use = KeyUse(KeyOwner.MINE if mine else KeyOwner.OTHER, named, overflow)
    try:
        found = PayerFile(settings_from({}).bridge_state_dir).read()
    except PayerError as error:
        fail(str(error))
    options = [Option(p.name, p.kind.subscription, p.overflow) for p in found]
    # Without a list, the server sees at each request whether its account is a subscription.
    problem = list_problem(use, options or [Option(DEFAULT_PAYER, subscription=False)])
    if problem:
        fail(f"--payer: {problem}.")
    return use


def _shown_use(use: KeyUse) -> str:
    whose = {
        "mine": "yours",
        "other": "someone else's",
        "unmarked": "not marked (bridge keys mark)",
    }
    payer = f", payer {', then '.join(use.payers)}" if use.payers else ""
    return whose[use.owner] + payer + (", overflow" if use.overflow else "")


def _details(key: Key) -> str:
    return ", ".join(filter(None, (_shown_use(key.use), _limits(key.limits))))


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
