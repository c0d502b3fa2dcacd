"""`bridge payers add | list | remove | check`: the accounts that answers are charged to."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.common import fail, settings_from
from bridge.cli.doctor import print_finding

if TYPE_CHECKING:
    from bridge.core.contract import PayerKind
    from bridge.core.payers import Payer, PayerFile
    from bridge.doctor import Finding
    from bridge.server import Settings

payers = typer.Typer(
    help="Name the accounts that answers are charged to. The server reads them at its start.",
    no_args_is_help=True,
)

_RESTART = "Restart the server to apply it."


# long: Typer takes each option as a parameter.
@payers.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the payer, such as mine or team.")],
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="With --login: the folder of the login (CLAUDE_CONFIG_DIR). Default: the one "
            "that Claude Code uses anyway."
        ),
    ] = None,
    login: Annotated[
        bool, typer.Option("--login", help="A subscription, by the login in FOLDER.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(help="A subscription, by a token of `bridge login --token` in this file."),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="An API key in this file, billed per token.")
    ] = None,
    bedrock: Annotated[bool, typer.Option("--bedrock", help="Amazon Bedrock.")] = False,
    vertex: Annotated[bool, typer.Option("--vertex", help="Google Vertex AI.")] = False,
    foundry: Annotated[bool, typer.Option("--foundry", help="Microsoft Foundry.")] = False,
    overflow: Annotated[
        bool,
        typer.Option(
            "--overflow",
            help="Let this billed payer answer your own requests when the login cannot.",
        ),
    ] = False,
) -> None:
    """Add a payer. The first one pays for your own requests unless a key says otherwise."""
    from bridge.core.contract import PayerKind
    from bridge.core.payers import Payer, PayerError

    kinds = {
        PayerKind.LOGIN: login,
        PayerKind.TOKEN: token_file is not None,
        PayerKind.API_KEY: api_key_file is not None,
        PayerKind.BEDROCK: bedrock,
        PayerKind.VERTEX: vertex,
        PayerKind.FOUNDRY: foundry,
    }
    chosen = [kind for kind, given in kinds.items() if given]
    if len(chosen) != 1:
        fail(
            "Name one kind of payer: --login, --token-file, --api-key-file, --bedrock, --vertex or "
            "--foundry."
        )
    if folder is not None and not login:
        fail(f"{folder} is a folder for --login only.")
    if folder == Path():
        # What an empty variable of a shell leaves: its folder would become that of the login.
        fail("Name the folder of the login, not the current one; or omit it for the usual one.")
    if folder is not None and folder.exists() and not folder.is_dir():
        fail(f"{folder} is not a folder. A file with a token goes with --token-file.")
    path = token_file or api_key_file or folder
    try:
        payer = Payer(name, chosen[0], None if path is None else _absolute(path), overflow)
        payer.secret()
        file = _file()
        file.add(payer)
    except ValueError as error:
        fail(f"No payer was added: {error}.")
    except PayerError as error:
        fail(str(error))
    typer.echo(f"Added payer {name} ({_described(payer)}). {_RESTART}")
    if payer.kind is PayerKind.LOGIN:
        typer.echo(f"To log it in: bridge login {name}. To check it: bridge payers check {name}")


@payers.command("list")
def list_payers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the payers, in order."""
    found = _read()
    if as_json:
        typer.echo(json.dumps([_as_json(payer) for payer in found], indent=2))
        return
    if not found:
        typer.echo(
            "No payers: the account of your Claude Code pays. Add one with `bridge payers add "
            "NAME`.",
            err=True,
        )
    width = max((len(payer.name) for payer in found), default=0)
    for payer in found:
        typer.echo(f"{payer.name:{width}}  {_described(payer)}")


@payers.command()
def remove(name: Annotated[str, typer.Argument(help="The payer's name.")]) -> None:
    """Remove a payer. Its folder and its files are not deleted."""
    from bridge.core.payers import PayerError

    try:
        left = _file().remove(name)
    except PayerError as error:
        fail(str(error))
    typer.echo(f"Removed payer {name}. {_RESTART} Until then the server uses it.")
    if keys := _keys_of(name):
        typer.echo(
            f"These keys name it: {', '.join(keys)}. Those that name no other payer get 403 after "
            "the restart: bridge keys edit NAME --payer PAYER.",
            err=True,
        )
    if not left:
        typer.echo("No payers left: the account of your Claude Code pays.", err=True)


@payers.command()
def check(
    name: Annotated[str | None, typer.Argument(help="The payer's name; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check which account each payer has, without a request to the model.

    Exit status 1 if one of them is not logged in.
    """
    from bridge.core.payers import PayerError, find

    # Its messages are reported as findings.
    logging.basicConfig(handlers=[logging.NullHandler()])
    settings, found = settings_from({}), _read()
    if not found:
        fail("There are no payers. `bridge doctor` checks the account of your Claude Code.")
    try:
        chosen = found if name is None else (find(found, name),)
    except PayerError as error:
        fail(str(error))
    findings = asyncio.run(_checked(settings, chosen, quiet=as_json))
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    if any(finding.mark == "bad" for finding in findings):
        raise typer.Exit(1)


async def _checked(settings: Settings, chosen: tuple[Payer, ...], *, quiet: bool) -> list[Finding]:
    from bridge.doctor import check_payers
    from bridge.server import StartError

    findings = []
    try:
        async for finding in check_payers(settings, chosen):
            findings.append(finding)
            if not quiet:
                print_finding(finding)
    except StartError as error:
        fail(str(error))
    return findings


def _keys_of(name: str) -> list[str]:
    """Return the names of the keys that have a payer, as far as the keys can be read."""
    from bridge.core.access import KeyStoreError
    from bridge.server import key_store

    try:
        return [key.name for key in key_store(settings_from({})).read() if name in key.use.payers]
    except KeyStoreError:
        return []


def _file() -> PayerFile:
    from bridge.core.payers import PayerFile

    return PayerFile(settings_from({}).bridge_state_dir)


def _read() -> tuple[Payer, ...]:
    from bridge.core.payers import PayerError

    try:
        return _file().read()
    except PayerError as error:
        fail(str(error))


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


_KINDS = {
    "login": "subscription login",
    "token": "subscription token",
    "api-key": "API key",
    "bedrock": "Amazon Bedrock",
    "vertex": "Google Vertex AI",
    "foundry": "Microsoft Foundry",
}


def _described(payer: Payer) -> str:
    kind: PayerKind = payer.kind
    where = f" in {payer.path}" if payer.path is not None else ""
    use = "yours only" if kind.subscription else "billed"
    return f"{_KINDS[kind]}{where}, {use}{', for overflow' if payer.overflow else ''}"


def _as_json(payer: Payer) -> dict[str, object]:
    path = None if payer.path is None else str(payer.path)
    return {
        "name": payer.name,
        "kind": payer.kind,
        "path": path,
        "subscription": payer.kind.subscription,
        "overflow": payer.overflow,
    }
