"""`bridge pool`."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli.common import fail, printable, table_width
from bridge.cli.server import Key, grpc_client_of

if TYPE_CHECKING:
    from rich.table import Table

    from bridge.v1.pool_pb2 import Pool


def pool(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Print again on every change.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(help="gRPC address, HOST:PORT. Default: the local server's settings."),
    ] = None,
    api_key: Key = None,
) -> None:
    """Show the processes, queue, login and usage limits of the running server."""
    from bridge.client import ChatError

    try:
        client = grpc_client_of(url, api_key)
        if not watch:
            _print(client.pool(), as_json=as_json)
        elif as_json or not _can_redraw():
            for state in client.watch_pool():
                _print(state, as_json=as_json)
        else:
            from rich.live import Live

            with Live(auto_refresh=False) as live:
                for state in client.watch_pool():
                    live.update(table_of(as_dict(state)), refresh=True)
    except ChatError as error:
        fail(str(error))
    except KeyboardInterrupt:
        # Ctrl-C is how --watch ends.
        pass


def _can_redraw() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


def _print(state: Pool, *, as_json: bool) -> None:
    pool_dict = as_dict(state)
    if as_json:
        typer.echo(json.dumps(pool_dict))
    else:
        from rich.console import Console

        Console(highlight=False, width=table_width()).print(table_of(pool_dict))
    sys.stdout.flush()


def as_dict(state: Pool) -> dict[str, Any]:
    """The message under its proto field names, zero values included."""
    from google.protobuf.json_format import MessageToDict

    as_json: dict[str, Any] = MessageToDict(
        state, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return as_json


def table_of(pool: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows_of(pool):
        table.add_row(name, Text(printable(value)))
    return table


def rows_of(pool: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows of the table: name and value."""
    totals = pool.get("totals", {})
    status = _enum(pool["status"], "STATUS_")
    account = "a simulated model" if pool["simulated"] else pool["account"]
    if plan_name := pool.get("subscription"):
        account = f"{account} ({plan_name})"
    rows = [("status", status)]
    if replica := pool.get("replica"):
        rows.insert(0, ("replica", str(replica)))
    if detail := pool.get("detail"):
        rows.append(("", str(detail)))
    rows += [
        ("account", f"{account} · Claude Code {pool['cli_version'] or 'starting'}"),
        ("processes", f"{_counts(pool.get('processes', {}))} · at most {pool['max_processes']}"),
        ("turns", f"{pool['pool_size']} concurrent · {pool['waiting']} waiting"),
    ]
    if totals:
        ended = {name: totals[name] for name in ("answered", "failed", "left")}
        rows += [
            ("requests", _counts(ended)),
            ("sessions", _counts(totals.get("sessions", {}))),
            (
                "started",
                f"{totals['processes_started']} processes · {totals['processes_ended']} ended",
            ),
        ]
    for payer in pool.get("payers", ()):
        rows.append((f"payer {payer['name']}", _payer(payer)))
    if plan := pool.get("plan"):
        rows.append(("plan", _plan(plan)))
        rows += [("", _window(window)) for window in plan.get("windows", ())]
    if pool["lacking"]:
        rows.append(("lacking", ", ".join(pool["lacking"])))
    return rows


def _enum(value: str, prefix: str) -> str:
    """The value of an enum in words."""
    return value.removeprefix(prefix).lower().replace("_", " ")


def _counts(counts: dict[str, int]) -> str:
    parts = [f"{int(count)} {name}" for name, count in counts.items() if int(count)]
    return " · ".join(parts) or "none"


def _payer(payer: dict[str, Any]) -> str:
    parts = [
        _enum(payer["kind"], "KIND_"),
        _enum(payer["status"], "STATUS_"),
        f"{payer['answered']} answered",
    ]
    if plan := payer.get("plan"):
        parts.append(_window(plan))
    for limited in payer.get("limited_models", ()):
        until = datetime.fromisoformat(limited["end_time"]).astimezone()
        model = limited["model"] or "every model"
        parts.append(f"not for {model} until {until:%a %H:%M} ({limited['reason'].lower()})")
    return " · ".join(parts)


def _plan(plan: dict[str, Any]) -> str:
    parts = [_enum(plan["status"], "STATUS_")]
    # If there are windows, each has a row of its own.
    if not plan.get("windows") and (plan.get("limit") or "reset_time" in plan):
        parts.append(_window(plan))
    if plan.get("using_overage"):
        parts.append("paid extra usage")
    return " · ".join(parts)


def _window(window: dict[str, Any]) -> str:
    parts = []
    if window.get("limit"):
        used = f" {window['utilization']:.0%} used" if "utilization" in window else ""
        parts.append(f"{window['limit'].replace('_', ' ')}{used}")
    if "reset_time" in window:
        resets = datetime.fromisoformat(window["reset_time"]).astimezone()
        parts.append(f"resets {resets:%a %H:%M}")
    return " · ".join(parts)
