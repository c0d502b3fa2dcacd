"""`bridge login`: logs in with the Claude Code that the bridge uses, in the user's own terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.common import fail, printable, settings_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.core.claude import LoginStatus
    from bridge.core.payers import Payer
    from bridge.server import Settings


def login(
    payer: Annotated[
        str | None,
        typer.Argument(help="The payer to log in. Default: the first subscription among them."),
    ] = None,
    token: Annotated[
        bool,
        typer.Option(
            "--token",
            help="Create a token, for a machine without a browser, instead of storing a login.",
        ),
    ] = False,
) -> None:
    """Log in to your Claude account with the Claude Code that the bridge uses.

    It runs in this terminal; the bridge sees neither your password nor the login that Claude Code
    stores.
    """
    from bridge.core.claude import login_command
    from bridge.core.contract import PayerKind
    from bridge.server import StartError, claude_cli

    settings = settings_from({})
    chosen = _chosen(settings, payer)
    try:
        cli = claude_cli(settings)
    except StartError as error:
        fail(str(error))
    for_token = token or (chosen is not None and chosen.kind is PayerKind.TOKEN)
    environment = _environment(settings, chosen, renewing=True)
    if (status := _run(login_command(cli, token=for_token), environment)) != 0:
        fail(f"Claude Code ended with status {status}; nothing was changed by the bridge.")
    if for_token and (chosen is None or chosen.kind is not PayerKind.TOKEN):
        typer.echo(
            "Save the token in a file that only you can read, then: bridge payers add NAME "
            "--token-file FILE. Or set CLAUDE_CODE_OAUTH_TOKEN for the server."
        )
        return
    if for_token and chosen is not None and chosen.path is not None:
        _save_token(chosen, chosen.path)
    _report(cli, _environment(settings, chosen, renewing=False), chosen)


def _chosen(settings: Settings, name: str | None) -> Payer | None:
    """Return the payer to log in; None is the operator's own Claude Code."""
    from bridge.core.payers import PayerError, PayerFile, find

    try:
        payers = PayerFile(settings.bridge_state_dir).read()
        if name is not None:
            chosen = find(payers, name)
            if not chosen.kind.subscription:
                fail(f"{name} has no login: it is a payer of the kind {chosen.kind}.")
            return chosen
    except PayerError as error:
        fail(str(error))
    subscriptions = [payer for payer in payers if payer.kind.subscription]
    if payers and not subscriptions:
        fail("None of the payers has a login. Add one: bridge payers add NAME --login")
    return subscriptions[0] if subscriptions else None


def _environment(settings: Settings, payer: Payer | None, *, renewing: bool) -> dict[str, str]:
    """The environment of the CLI; while `renewing`, without the present token."""
    from bridge.core.claude import Credential
    from bridge.core.contract import PayerKind
    from bridge.core.payers import PayerError
    from bridge.core.system import private_folder

    own = dict(os.environ)
    if payer is None:
        return own
    folder = payer.config_folder(settings.bridge_state_dir)
    try:
        if folder is not None:
            private_folder(folder)
        kind = PayerKind.LOGIN if renewing and folder is not None else payer.kind
        secret = "" if kind is PayerKind.LOGIN else payer.secret()
        return Credential(kind, folder, secret).environment(own)
    except PayerError as error:
        fail(str(error))
    except OSError as error:
        fail(f"The folder {folder} cannot be used: {error.strerror}.")


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command in this terminal; Ctrl-C is for it alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(
            command,
            env=environment,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ).returncode
    except OSError as error:
        fail(f"Claude Code could not be started: {error.strerror}.")
    finally:
        signal.signal(signal.SIGINT, before)


def _save_token(payer: Payer, path: Path) -> None:
    from bridge.core.system import replace_file

    if sys.stdin.isatty():
        token = typer.prompt("Paste the token", hide_input=True)
    else:
        token = sys.stdin.readline()
    token = token.strip()
    if not token:
        fail("No token was given; the payer is unchanged.")
    if problem := payer.problem(token):
        fail(f"The payer is unchanged. What was pasted cannot be its token: {path} {problem}")
    try:
        replace_file(path, f"{token}\n")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.")


def _report(cli: Path, environment: Mapping[str, str], payer: Payer | None) -> None:
    """Print what the CLI reports of its login."""
    from bridge.core.claude import LoginStatus, status_command
    from bridge.core.contract import PayerKind

    try:
        done = subprocess.run(
            status_command(cli),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        fail("Claude Code did not report its login. Check it: bridge doctor")
    status = LoginStatus.of(done.stdout)
    if not status.logged_in:
        fail("Claude Code is not logged in.")
    whose = "" if payer is None else f"Payer {payer.name}: "
    typer.echo(f"{whose}{printable(_found(status))}")
    if payer is not None and payer.kind is PayerKind.TOKEN:
        typer.echo("Restart the server to apply it: it reads tokens when it starts.")
    else:
        typer.echo("A running server uses it for its next request; no restart is needed.")


def _found(status: LoginStatus) -> str:
    details = [status.email, status.organization, status.subscription, status.method]
    return f"Logged in ({', '.join(filter(None, details))})."
