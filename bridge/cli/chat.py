"""`bridge chat`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.common import fail, printable
from bridge.cli.server import ByGrpc, Key, Url, client_of

if TYPE_CHECKING:
    from bridge.client import Picture
    from bridge.client.chat_session import Conversation, Spoken

_PROMPT = "> "
_HELP = "/new begins anew, /quit or Ctrl-D ends; Ctrl-C cancels an answer"
_INTERRUPTED = 130


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
    from bridge.client import ChatError, Question, Turn
    from bridge.client.chat_session import Conversation, picture_of, readable, schema_of

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
    from bridge.client.chat_session import readable

    given = [] if prompt is None else [readable(prompt)]
    if not sys.stdin.isatty():
        given.append(sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n"))
    elif not given:
        return None
    return "\n\n".join(filter(None, given))


def _converse(conversation: Conversation, pictures: tuple[Picture, ...], *, quiet: bool) -> None:
    from bridge.client import ChatError, Turn
    from bridge.client.chat_session import readable

    with contextlib.suppress(ImportError):
        # With it a line can be edited, and earlier ones come back by the arrow keys.
        import readline  # noqa: F401
    if not quiet:
        typer.echo(_HELP, err=True)
    while True:
        try:
            line = readable(_read()).strip()
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo(f"\n{_HELP}", err=True)
            continue
        if line in ("/quit", "/exit"):
            return
        if line == "/new":
            conversation.forget()
        elif line:
            try:
                spoken = conversation.say(Turn("user", line, pictures))
            except ChatError as error:
                typer.echo(f"bridge: {error}", err=True)
                continue
            pictures = ()
            _end(spoken, quiet=quiet)


def _read() -> str:
    if sys.stdout.isatty():
        return input(_PROMPT)
    # The answers go elsewhere, and nothing but them.
    sys.stderr.write(_PROMPT)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


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
