"""`bridge keys add | edit | rotate | list | revoke`: the stored keys, which a server follows."""

import typer

from bridge.cli.keys.add import add
from bridge.cli.keys.edit import edit, rotate
from bridge.cli.keys.list import list_keys, revoke

keys = typer.Typer(help="Create, change, list and revoke API keys.", no_args_is_help=True)
keys.command()(add)
keys.command()(edit)
keys.command()(rotate)
keys.command("list")(list_keys)
keys.command()(revoke)

__all__ = ["keys"]
