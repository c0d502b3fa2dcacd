"""`bridge doctor`."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.cli.common import fail, printable

if TYPE_CHECKING:
    from bridge.doctor import Finding

_MARKS = {"good": ("✓", "+", "green"), "warning": ("!", "!", "yellow"), "bad": ("✗", "x", "red")}


def doctor(
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Test what your account and its models accept with about ten short requests, "
            "which your account pays for, and write a report.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Send the --live requests without asking.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Use the built-in simulated model instead of an account.")
    ] = False,
) -> None:
    """Check what `bridge serve` needs and suggest fixes. Exit status 1 if it would not work."""
    confirm = live and not (yes or demo)
    if confirm and (as_json or not sys.stdin.isatty()):
        fail("--live sends requests that your account pays for: confirm with --yes.")
    # Its messages are reported as findings.
    logging.basicConfig(handlers=[logging.NullHandler()])
    try:
        findings = asyncio.run(_examine(live=live, demo=demo, quiet=as_json, confirm=confirm))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    ok = all(finding.mark != "bad" for finding in findings)
    if as_json:
        report = {"ok": ok, "checks": [finding.as_json() for finding in findings]}
        typer.echo(json.dumps(report, indent=2))
    if not ok:
        raise typer.Exit(1)


async def _examine(*, live: bool, demo: bool, quiet: bool, confirm: bool) -> list[Finding]:
    from bridge.doctor import examine, question

    def agreed(account: str) -> bool:
        return not confirm or typer.confirm(printable(question(account)))

    findings = []
    async for finding in examine(demo=demo, live=live, agreed=agreed):
        findings.append(finding)
        if not quiet:
            print_finding(finding)
    return findings


def print_finding(finding: Finding) -> None:
    """Print a finding, with its remedy."""
    fine, plain, colour = _MARKS[finding.mark]
    mark = typer.style(fine if _can_print(fine) else plain, fg=colour)
    typer.echo(f"{mark} {printable(finding.check):<10} {printable(finding.found)}")
    if finding.remedy:
        typer.echo(f"  {'':<10} {printable(finding.remedy)}")
    sys.stdout.flush()


def _can_print(mark: str) -> bool:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
