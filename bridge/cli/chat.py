"""`bridge chat`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.chat_commands import HELP, Command, Say, Unknown, entered
from bridge.cli.common import fail, printable
from bridge.cli.server import ByGrpc, Key, Url, client_of

if TYPE_CHECKING:
    from bridge.client import Conversation, Picture, Spoken

_INTERRUPTED = 130


# long: Typer takes each option as a parameter.
def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="What to say, before what is piped in. Without either: a conversation."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="The model to ask.")] = "default",
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture for the first prompt: a file or an https address. Repeatable."
        ),
    ] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="A file with the JSON Schema of the answer.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but the answer.")] = False,
    by_grpc: ByGrpc = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Ask the running server and print the answer as it comes, or hold a conversation."""
    from bridge.client import (
        ChatError,
        Conversation,
        Question,
        Turn,
        picture_of,
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
        pictures = tuple(picture_of(name) for name in image or ())
        client = client_of(url, api_key, by_grpc=by_grpc)
        conversation = Conversation(client, question, _show)
        text = _said(prompt)
        if text is None:
            _converse(conversation, pictures, quiet=quiet)
            return
        if not (text or pictures):
            fail("Nothing to ask: give a PROMPT, or pipe one in.")
        spoken = conversation.say(Turn("user", text, pictures))
    except ChatError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    _end(spoken, quiet=quiet)
    if spoken.done is None:
        raise typer.Exit(_INTERRUPTED)


def _said(prompt: str | None) -> str | None:
    """The prompt, with what was piped in after it; None where a person is to be asked."""
    from bridge.client import readable

    given = [] if prompt is None else [readable(prompt)]
    if not sys.stdin.isatty():
        given.append(sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n"))
    elif not given:
        return None
    return "\n\n".join(filter(None, given))


def _converse(conversation: Conversation, pictures: tuple[Picture, ...], *, quiet: bool) -> None:
    from bridge.cli.line_editor import LineEditor
    from bridge.client import ChatError, Turn, readable

    if not quiet:
        typer.echo(HELP, err=True)
    with LineEditor() as editor:
        while True:
            try:
                meant = entered(readable(editor.read()))
            except EOFError:
                typer.echo()
                return
            except KeyboardInterrupt:
                typer.echo(f"\n{HELP}", err=True)
                continue
            match meant:
                case Command.QUIT:
                    return
                case Command.CLEAR:
                    conversation.forget()
                case Command.HELP:
                    typer.echo(HELP, err=True)
                case Unknown():
                    typer.echo(f"bridge: {printable(str(meant))}", err=True)
                case Say(text):
                    try:
                        spoken = conversation.say(Turn("user", text, pictures))
                    except ChatError as error:
                        typer.echo(f"bridge: {printable(str(error))}", err=True)
                        continue
                    pictures = ()
                    _end(spoken, quiet=quiet)


def _show(text: str) -> None:
    if sys.stdout.isatty():
        text = printable(text)
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _end(spoken: Spoken, *, quiet: bool) -> None:
    if not spoken.text.endswith("\n"):
        sys.stdout.write("\n")
        sys.stdout.flush()
    if not quiet:
        typer.secho(printable(spoken.summary()), err=True, dim=True)
