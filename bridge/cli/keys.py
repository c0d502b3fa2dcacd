"""`bridge keys add | list | revoke`: the file of hashed keys. A running server follows it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.common import fail, settings_from

if TYPE_CHECKING:
    from bridge.core.access import Key, KeyFile, KeyLimits

keys = typer.Typer(help="Make, list and revoke the keys of the server.", no_args_is_help=True)


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="A name for it, such as laptop.")],
    admin: Annotated[
        bool, typer.Option("--admin", help="Let it see the pool, the metrics and the logs too.")
    ] = False,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at once.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(min=1, help="Tokens a day (UTC), of prompts and answers.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it may use; repeat it for several.")
    ] = None,
) -> None:
    """Make a key and print its secret, which is shown this once."""
    from bridge.core.access import KeyFileError, KeyLimits, KeyScope

    file = _file()
    limits = KeyLimits(concurrent, per_minute, tokens_per_day, tuple(model or ()))
    scope = KeyScope.ADMIN if admin else KeyScope.COMPLETE
    if any(key.name == name for key in settings_from({}).bridge_api_keys):
        fail(f"BRIDGE_API_KEYS has a key named {name} already: take another name.")
    try:
        secret = file.add(name, scope, limits)
    except KeyFileError as error:
        fail(str(error))
    except ValueError as error:
        fail(f"No key was made: {error}.")
    # Alone on stdout, for scripts.
    typer.echo(secret)
    typer.echo(
        f"This is the key {name} (scope {scope}); it is not shown again. "
        "The server asks for a key from now on.",
        err=True,
    )


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
        typer.echo(f"No keys in {file.path}. Make one with `bridge keys add NAME`.", err=True)
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        made = time.strftime("%Y-%m-%d", time.gmtime(key.created_at))
        typer.echo(f"{key.name:{width}}  {key.scope:8}  {made}  {_limits(key.limits)}".rstrip())


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="The key's name.")]) -> None:
    """Revoke a key: a running server refuses it from now on."""
    from bridge.core.access import KeyFileError

    file = _file()
    try:
        left = file.revoke(name)
    except KeyFileError as error:
        fail(str(error))
    except KeyError:
        fail(f"There is no key named {name!r} in {file.path}. `bridge keys list` shows them.")
    typer.echo(f"The key {name} is revoked.")
    if not left:
        typer.echo(
            f"No key is left in {file.path}. Without another the server lets nobody in; "
            "to serve without keys, stop it, remove that file and start it again.",
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
    }


def _limits(limits: KeyLimits) -> str:
    said = {
        "at once": limits.concurrent,
        "a minute": limits.per_minute,
        "tokens a day": limits.tokens_per_day,
    }
    parts = [f"{value} {unit}" for unit, value in said.items() if value is not None]
    return ", ".join([*parts, *(f"model {model}" for model in limits.models)])
