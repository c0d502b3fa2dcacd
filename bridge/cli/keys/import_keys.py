"""`bridge keys import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.common import fail
from bridge.cli.keys.shared import failing, in_place, key_store


def import_keys(
    file: Annotated[Path, typer.Argument(help="A file of keys, such as keys.json.")],
) -> None:
    """Add the keys of a file to those in use, with their secrets, limits and ids.

    Keys that are there already stay as they are.
    """
    from bridge.core.access import KeyFile

    if not file.exists():
        fail(f"{file} does not exist.")
    store = key_store()
    with failing("No key was imported"):
        new = KeyFile(file).ring()
        before = {key.id for key in store.read()}
        keys = store.change(lambda ring: ring.joined(new)).keys
    names = [key.name for key in keys if key.id not in before]
    typer.echo(f"Imported into {in_place(store)}: {', '.join(names) or 'nothing new'}.")
