"""`bridge chat` and `bridge models`: clients of a running server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bridge.cli.common import fail, local_server

_Key = Annotated[
    str | None,
    typer.Option(envvar="BRIDGE_API_KEY", help="The server's key, where it asks for one."),
]


def chat(
    prompt: Annotated[str, typer.Argument(help="What to say.")],
    model: Annotated[str, typer.Option(help="The model to ask.")] = "default",
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    url: Annotated[
        str | None, typer.Option(help="The server. Default: this machine, PORT.")
    ] = None,
    api_key: _Key = None,
) -> None:
    """Ask the running server and print the answer as it comes."""
    from bridge.client import ChatError, ServerAddress, stream_chat

    try:
        server = ServerAddress(url) if url else local_server()
        for text in stream_chat(server, prompt, model=model, system=system, api_key=api_key):
            sys.stdout.write(text)
            sys.stdout.flush()
    except ChatError as error:
        fail(str(error))
    sys.stdout.write("\n")


def models(
    url: Annotated[
        str | None, typer.Option(help="The server. Default: this machine, PORT.")
    ] = None,
    api_key: _Key = None,
) -> None:
    """List the models that the running server offers."""
    from bridge.client import ChatError, ServerAddress, list_models

    try:
        server = ServerAddress(url) if url else local_server()
        for name in list_models(server, api_key=api_key):
            typer.echo(name)
    except ChatError as error:
        fail(str(error))
