"""`bridge keys add | edit | rotate | list | import | revoke`: keys, which a server follows."""

import typer

from bridge.cli.keys.add import add
from bridge.cli.keys.edit import edit, rotate
from bridge.cli.keys.import_keys import import_keys
from bridge.cli.keys.list import list_keys, revoke

keys = typer.Typer(help="Create, change, list, import and revoke API keys.", no_args_is_help=True)
keys.command()(add)
keys.command()(edit)
keys.command()(rotate)
keys.command("list")(list_keys)
keys.command("import")(import_keys)
keys.command()(revoke)

__all__ = ["keys"]
