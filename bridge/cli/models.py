"""`bridge models`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bridge.cli.common import fail, printable
from bridge.cli.server import ByGrpc, Key, Url, client_of


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with all fields.")] = False,
    by_grpc: ByGrpc = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """List the models that the running server offers."""
    from bridge.client import ChatError

    try:
        offered = client_of(url, api_key, by_grpc=by_grpc).models()
    except ChatError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(offered, indent=2))
        return
    for model in offered:
        typer.echo(printable(model["id"]))
