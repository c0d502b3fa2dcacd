"""`bridge chat`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.chat.slash_commands import HELP, Command, Say, Unknown, entered
from bridge.cli.common import fail, printable
from bridge.cli.server import ByGrpc, Key, Url, client_of

if TYPE_CHECKING:
    from bridge.client import Conversation, Image, TurnResult

_INTERRUPTED = 130


# long: Typer takes each option as a parameter.
def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="The prompt; piped input is appended. Without either, starts a conversation."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Model to use.")] = "default",
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="Image for the first prompt: a file or an https URL. Repeatable."),
    ] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="File with a JSON Schema for the answer.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer.")] = False,
    by_grpc: ByGrpc = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Send a prompt to the running server and stream the answer, or start a conversation."""
    from bridge.client import (
        ChatError,
        Conversation,
        Question,
        Turn,
        load_image,
        readable,
        schema_of,
    )

    try:
        question = Question(
            (),
            model,
            None if system is None else readable(system),
            None if json_schema is None else schema_of(json_schema),
        )
        images = tuple(load_image(name) for name in image or ())
        client = client_of(url, api_key, by_grpc=by_grpc)
        conversation = Conversation(client, question, _show)
        text = _prompt_of(prompt)
        if text is None:
            _converse(conversation, images, quiet=quiet)
            return
        if not (text or images):
            fail("No prompt: pass PROMPT, or pipe one in.")
        result = conversation.say(Turn("user", text, images))
    except ChatError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    _end(result, quiet=quiet)
    if result.done is None:
        raise typer.Exit(_INTERRUPTED)


def _prompt_of(prompt: str | None) -> str | None:
    """The prompt, followed by piped input; None to start a conversation at the terminal."""
    from bridge.client import readable

    given = [] if prompt is None else [readable(prompt)]
    if not sys.stdin.isatty():
        given.append(sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n"))
    elif not given:
        return None
    return "\n\n".join(filter(None, given))


def _converse(conversation: Conversation, images: tuple[Image, ...], *, quiet: bool) -> None:
    from bridge.cli.chat.line_editor import LineEditor
    from bridge.client import ChatError, Turn, readable

    if not quiet:
        typer.echo(HELP, err=True)
    with LineEditor() as editor:
        while True:
            try:
                command = entered(readable(editor.read()))
            except EOFError:
                typer.echo()
                return
            except KeyboardInterrupt:
                typer.echo(f"\n{HELP}", err=True)
                continue
            match command:
                case Command.QUIT:
                    return
                case Command.CLEAR:
                    conversation.forget()
                case Command.HELP:
                    typer.echo(HELP, err=True)
                case Unknown():
                    typer.echo(f"bridge: {printable(str(command))}", err=True)
                case Say(text):
                    try:
                        result = conversation.say(Turn("user", text, images))
                    except ChatError as error:
                        typer.echo(f"bridge: {printable(str(error))}", err=True)
                        continue
                    images = ()
                    _end(result, quiet=quiet)


def _show(text: str) -> None:
    if sys.stdout.isatty():
        text = printable(text)
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _end(result: TurnResult, *, quiet: bool) -> None:
    if not result.text.endswith("\n"):
        sys.stdout.write("\n")
        sys.stdout.flush()
    if not quiet:
        typer.secho(printable(result.summary()), err=True, dim=True)
