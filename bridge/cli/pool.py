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
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again at every change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    url: Annotated[
        str | None,
        typer.Option(help="The gRPC door, HOST:PORT. Default: this machine, by its settings."),
    ] = None,
    api_key: Key = None,
) -> None:
    """Show the processes, the queue, the login and the plan of the running server."""
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
        # How a person ends --watch.
        pass


def _can_redraw() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


def _print(state: Pool, *, as_json: bool) -> None:
    told = as_dict(state)
    if as_json:
        typer.echo(json.dumps(told))
    else:
        from rich.console import Console

        Console(highlight=False, width=table_width()).print(table_of(told))
    sys.stdout.flush()


def as_dict(state: Pool) -> dict[str, Any]:
    """The message with its fields' own names, and zeros said."""
    from google.protobuf.json_format import MessageToDict

    told: dict[str, Any] = MessageToDict(
        state, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return told


def table_of(told: dict[str, Any]) -> Table:
    """The pool as a person reads it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows_of(told):
        table.add_row(name, Text(printable(value)))
    return table


def rows_of(told: dict[str, Any]) -> list[tuple[str, str]]:
    """What the table says, line by line."""
    totals = told.get("totals", {})
    status = str(told["status"]).removeprefix("STATUS_").lower().replace("_", " ")
    account = "a simulated model" if told["simulated"] else told["account"]
    if plan_name := told.get("subscription"):
        account = f"{account} ({plan_name})"
    rows = [("status", status)]
    if detail := told.get("detail"):
        rows.append(("", str(detail)))
    rows += [
        ("account", f"{account} · Claude Code {told['cli_version'] or 'not known yet'}"),
        ("processes", f"{_counts(told.get('processes', {}))} · at most {told['max_processes']}"),
        ("turns", f"{told['pool_size']} at once · {told['waiting']} waiting"),
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
    if plan := told.get("plan"):
        rows.append(("plan", _plan(plan)))
        rows += [("", _window(window)) for window in plan.get("windows", ())]
    if told["lacking"]:
        rows.append(("lacking", ", ".join(told["lacking"])))
    return rows


def _counts(counts: dict[str, int]) -> str:
    told = [f"{int(count)} {name}" for name, count in counts.items() if int(count)]
    return " · ".join(told) or "none"


def _plan(plan: dict[str, Any]) -> str:
    told = [str(plan["status"]).replace("_", " ")]
    # Where each limit is told of, it has a line of its own.
    if not plan.get("windows") and (plan.get("limit") or "resets_at" in plan):
        told.append(_window(plan))
    if plan.get("using_overage"):
        told.append("paid extra usage")
    return " · ".join(told)


def _window(window: dict[str, Any]) -> str:
    told = []
    if window.get("limit"):
        used = f" {window['utilization']:.0%} used" if "utilization" in window else ""
        told.append(f"{window['limit'].replace('_', ' ')}{used}")
    if "resets_at" in window:
        resets = datetime.fromisoformat(window["resets_at"]).astimezone()
        told.append(f"resets {resets:%a %H:%M}")
    return " · ".join(told)
