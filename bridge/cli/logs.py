"""`bridge logs`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.common import fail, printable, settings_from, table_width

if TYPE_CHECKING:
    from rich.console import Console

    from bridge.core.telemetry import Entry

# A request's id, door and times are never cut: what is cut where a terminal is narrow are the
# names that callers and models have.
_WIDTHS = (14, 12, 4, 8, 26, 11, 7, 7, 7, 14, 0)
_NEEDED = sum(_WIDTHS) + 2 * len(_WIDTHS) + 24
_NUMBERS = ("queue", "first", "total", "tokens")


def logs(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with each new line.")
    ] = False,
    count: Annotated[int, typer.Option("-n", min=0, help="Lines to begin with.")] = 20,
    request_id: Annotated[
        str | None, typer.Option("--id", help="Only this request; the beginning of its id will do.")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only what failed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they are.")] = False,
) -> None:
    """Show the last requests from the session log."""
    from bridge.core.telemetry import LogReader, wanted

    path = settings_from({}).session_log_path
    if path is None:
        fail("No session log is kept (BRIDGE_SESSION_LOG=off).")
    chosen = wanted(request_id, errors=errors)
    with LogReader(path) as reader:
        try:
            if not follow and not path.exists():
                fail(
                    f"There is no session log at {path}: `bridge serve` writes one, in the folder "
                    "BRIDGE_STATE_DIR."
                )
            printer = _Lines() if as_json else _Table()
            found = reader.last(count, chosen)
            if not (found or follow) and request_id is not None:
                fail(f"No request in {path} or the older logs has the id {request_id}.")
            printer.print(found)
            if follow:
                for entry in reader.follow(chosen):
                    printer.print([entry])
        except OSError as error:
            fail(f"The session log {path} cannot be read: {error.strerror}.")
        except KeyboardInterrupt:
            # How a person ends -f.
            pass
        finally:
            if reader.broken:
                lines = "line was" if reader.broken == 1 else "lines were"
                typer.echo(f"{reader.broken} broken {lines} passed over", err=True)


class _Lines:
    def print(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            # ASCII already: see how it is written.
            sys.stdout.write(f"{entry.text}\n")
        sys.stdout.flush()


class _Table:
    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(highlight=False, width=table_width())
        # On a narrow terminal lines go on below: how a request ended is the last column.
        self._console.width = max(self._console.width, _NEEDED)
        self._head = True

    def print(self, entries: Iterable[Entry]) -> None:
        from rich.table import Table
        from rich.text import Text

        from bridge.core.telemetry import COLUMNS, cells

        table = Table(box=None, pad_edge=False, show_header=self._head, header_style="bold")
        for name, width in zip(COLUMNS, _WIDTHS, strict=True):
            table.add_column(
                name,
                # As wide in every row that follows as in the first.
                min_width=width or None,
                max_width=width or None,
                no_wrap=True,
                justify="right" if name in _NUMBERS else "left",
            )
        for entry in entries:
            style = "red" if entry.record.get("error") else ""
            table.add_row(*(Text(printable(cell)) for cell in cells(entry.record)), style=style)
        if table.row_count or self._head:
            self._console.print(table)
        self._head = False
