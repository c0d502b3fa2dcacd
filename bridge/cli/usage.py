"""`bridge usage`: sums of the ledger, read from its file."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.common import fail, printable, settings_from, table_width
from bridge.cli.server import Key, base_of

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.core.ledger import Dimension, Totals, UsageRow

_BY = typer.Option("--by", help="Sum by day, key, model or payer.")
_SINCE = typer.Option("--since", help="The first day (UTC): 2026-11-01, or 7d for seven days.")

_URL = typer.Option(
    "--url", help="Ask this server instead; repeat it to sum over the replicas of a fleet."
)


def usage(
    by: Annotated[str, _BY] = "day",
    since: Annotated[str | None, _SINCE] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    url: Annotated[list[str] | None, _URL] = None,
    api_key: Key = None,
) -> None:
    """Show the requests, tokens and cost of each day, key, model or payer.

    Reads the ledger in BRIDGE_STATE_DIR, or asks running servers and sums over them.
    """
    from bridge.core.ledger import Dimension, first_day

    try:
        dimension = Dimension(by)
    except ValueError:
        fail(f"--by {by}: choose {', '.join(Dimension)}.")
    try:
        first = "" if since is None else first_day(since, time.time())
    except ValueError:
        fail(f"--since {since}: write a date as 2026-11-01, or a number of days as 7d.")
    rows = _asked(url, api_key, dimension, first) if url else _read(dimension, first)
    if as_json:
        typer.echo(json.dumps([_flat(dimension, row) for row in rows], indent=2))
    elif as_csv:
        _print_csv(dimension, rows)
    elif not rows:
        where = (
            ", ".join(url) if url else f"{_ledger()}. To ask a running server or demo: --url URL"
        )
        typer.echo(f"No usage in {where}.", err=True)
    else:
        _print_table(dimension, rows)


def _ledger() -> Path:
    from bridge.core.ledger import LEDGER_FILE

    return settings_from({}).bridge_state_dir / LEDGER_FILE


def _read(by: Dimension, since: str) -> list[UsageRow]:
    import sqlite3

    from bridge.core.ledger import read_rows

    path = _ledger()
    try:
        return read_rows(path, by, since)
    except (sqlite3.Error, OSError) as error:
        fail(f"The ledger {path} cannot be read: {error}.")


def _asked(urls: Sequence[str], api_key: str | None, by: Dimension, since: str) -> list[UsageRow]:
    """The sums over several servers; without one of them they would be wrong."""
    from bridge.client import ChatError, HttpClient, ServerAddress

    url_of: dict[str, str] = {}
    rows: list[UsageRow] = []
    for url in urls:
        try:
            found = HttpClient(ServerAddress(base_of(url)), api_key).usage(by, since)
        except ChatError as error:
            fail(str(error))
        if found.replica in url_of:
            fail(
                f"{url_of[found.replica]} and {url} are the same server, {found.replica}, or have "
                "the same BRIDGE_REPLICA: give the own address of each server, not a balancer's."
            )
        url_of[found.replica] = url
        rows += found.rows
    return _summed(rows)


def _summed(rows: Sequence[UsageRow]) -> list[UsageRow]:
    """One row for each name, in the order of the names."""
    from bridge.core.ledger import Totals, UsageRow

    totals: dict[str, Totals] = {}
    for row in rows:
        totals[row.name] = totals.get(row.name, Totals()) + row.totals
    return [UsageRow(name, totals[name]) for name in sorted(totals)]


def _flat(by: str, row: UsageRow) -> dict[str, Any]:
    usd = {name: round(getattr(row.totals, name), 9) for name in ("cost_usd", "billed_usd")}
    return {by: row.name, **asdict(row.totals), **usd}


def _print_csv(by: str, rows: Sequence[UsageRow]) -> None:
    from bridge.core.ledger import Totals

    names = [by, *(field.name for field in fields(Totals))]
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(by, row) for row in rows)


def _print_table(by: str, rows: Sequence[UsageRow]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bridge.core.ledger import Totals

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(by)
    for name in ("requests", "input", "cached", "cache writes", "output", "list price"):
        table.add_column(name, justify="right", no_wrap=True)
    total = sum((row.totals for row in rows), Totals())
    for name, totals in [*((row.name, row.totals) for row in rows), ("total", total)]:
        style = "bold" if totals is total else ""
        cells = (printable(name) or "-", *_cells(totals))
        table.add_row(*map(Text, cells), style=style)
    Console(highlight=False, width=table_width()).print(table)
    if total.billed_usd < total.cost_usd:
        typer.echo(f"Billed: ${total.billed_usd:.2f}. The rest is a list price, not billed.")
    if total.unknown_costs:
        typer.echo(f"Requests of unknown cost (their process was killed): {total.unknown_costs}.")


def _cells(totals: Totals) -> tuple[str, ...]:
    counts = (
        *(totals.requests, totals.input_tokens, totals.cache_read_tokens),
        *(totals.cache_write_tokens, totals.output_tokens),
    )
    return *(f"{count:,}" for count in counts), f"${totals.cost_usd:,.4f}"
