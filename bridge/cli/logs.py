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

# A request's id, API and times are never cut: on a narrow terminal only the names of keys and
# models are.
_WIDTHS = (14, 12, 4, 8, 26, 11, 7, 7, 7, 14, 0)
_NEEDED = sum(_WIDTHS) + 2 * len(_WIDTHS) + 24
_NUMBERS = ("queue", "first", "total", "tokens")

_ID = typer.Option(
    "--id", help="Only this request: a prefix of its id, or the caller's own id of it."
)
_LABEL = typer.Option(
    "--label", metavar="NAME=VALUE", help="Only requests with this label; repeatable."
)
_KEY = typer.Option(
    "--key", metavar="NAME", help="Only requests with this key, also a revoked one of that name."
)


def logs(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new lines.")
    ] = False,
    count: Annotated[int, typer.Option("-n", min=0, help="Number of lines to show first.")] = 20,
    request_id: Annotated[str | None, _ID] = None,
    label: Annotated[list[str] | None, _LABEL] = None,
    key: Annotated[str | None, _KEY] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only failed requests.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the raw JSON lines.")] = False,
) -> None:
    """Show the latest requests from the session log."""
    from bridge.core.access import has_name
    from bridge.core.telemetry import LogReader, wanted

    path = settings_from({}).session_log_path
    if path is None:
        fail("The session log is off (BRIDGE_SESSION_LOG=off).")
    chosen = wanted(
        request_id,
        errors=errors,
        labels=[_label(each) for each in label or ()],
        key=None if key is None else lambda caller: has_name(caller, key),
    )
    with LogReader(path) as reader:
        try:
            if not follow and not path.exists():
                fail(f"No session log at {path}: `bridge serve` writes it in BRIDGE_STATE_DIR.")
            printer = _Lines() if as_json else _Table()
            found = reader.last(count, chosen)
            if not (found or follow) and request_id is not None:
                fail(f"No request with id {request_id} in {path} or the rotated logs.")
            printer.print(found)
            if follow:
                for entry in reader.follow(chosen):
                    printer.print([entry])
        except OSError as error:
            fail(f"The session log {path} cannot be read: {error.strerror}.")
        except KeyboardInterrupt:
            # Ctrl-C is how -f ends.
            pass
        finally:
            if reader.broken:
                lines = "line" if reader.broken == 1 else "lines"
                typer.echo(f"skipped {reader.broken} malformed {lines}", err=True)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        fail(f"--label {text}: write NAME=VALUE.")
    return name, value


class _Lines:
    def print(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            # The log is written in ASCII.
            sys.stdout.write(f"{entry.text}\n")
        sys.stdout.flush()


class _Table:
    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(highlight=False, width=table_width())
        # On a narrow terminal lines wrap: the last column says how the request ended.
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
                # The same width in every batch of rows.
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
