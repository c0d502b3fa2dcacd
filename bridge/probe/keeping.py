"""The reports for CLIs that do not ship with the package, stored in a file between starts.

A report is stored by the CLI's path, size and time, which differ for another version. An unreadable
report, or one for another list of behaviours, is ignored.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.core.system import private_file, private_folder
from bridge.probe.behaviours import BEHAVIOURS, LIST_VERSION
from bridge.probe.bundled import shipped_report
from bridge.probe.report import Report, missing
from bridge.probe.run import probe

logger = logging.getLogger(__name__)

FILE_NAME = "probe.json"
"""Its name in the state folder."""

_KEEP = 8
# A new version of the bridge may use the CLI in new ways.
_LIST = {"version": LIST_VERSION, "bridge": __version__}


_Reports = dict[str, Report]
"""By the identity of a CLI's file, the newest last."""


async def report_for(
    cli: Path,
    folder: Path,
    *,
    probing: Callable[[Path], Awaitable[Report]] = probe,
    say: Callable[[str], None] = logger.info,
) -> Report:
    """Return the report for this CLI: shipped, stored, or made now and stored.

    A report of an unusable CLI is not stored: the next start probes again. Raises ProbeError and
    OSError if the CLI cannot be run or read.
    """
    shipped = shipped_report(cli)
    if shipped is not None:
        return shipped
    file = folder / FILE_NAME
    kept = _read(file)
    identity = _identity(cli)
    report = kept.get(identity)
    if report is None:
        say(f"checking which features {cli} has (once per version; takes some seconds)")
        report = await probing(cli)
        if not missing(report):
            kept[identity] = report
            _write(file, kept)
    return report


def _identity(cli: Path) -> str:
    status = cli.stat()
    return f"{cli}:{status.st_size}:{status.st_mtime_ns}"


def _read(file: Path) -> _Reports:
    try:
        private_file(file)
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["list"] != _LIST:
            return {}
        reports = {str(cli): _report(value) for cli, value in data["reports"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.info("%s is ignored: %r", file, error)
        return {}
    return {cli: report for cli, report in reports.items() if report is not None}


def _report(value: dict[str, Any]) -> Report | None:
    found = {str(id): held is True for id, held in value["found"].items()}
    if found.keys() != {behaviour.id for behaviour in BEHAVIOURS}:
        return None
    details = {str(id): str(why) for id, why in value["details"].items()}
    report = Report(str(value["cli_version"]), found, details)
    return None if missing(report) else report


def _write(file: Path, kept: _Reports) -> None:
    """Replace the file atomically, readable by its owner only. Failures are logged."""
    data = {
        "list": _LIST,
        "reports": {
            cli: {
                "cli_version": report.cli_version,
                "found": dict(report.found),
                "details": dict(report.details),
            }
            for cli, report in list(kept.items())[-_KEEP:]
        },
    }
    try:
        private_folder(file.parent)
        # Created with mode 0600.
        handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                json.dump(data, opened, indent=1)
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        logger.warning("the features of this Claude Code could not be stored: %s", error)
