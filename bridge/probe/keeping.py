"""The reports for CLIs that the package knows nothing of, kept in a file between starts.

A report is kept by the file's path, size and time: a new version has others. What cannot be read,
or is of another list, counts as not there.
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
# A new bridge may use the CLI in new ways.
_LIST = {"version": LIST_VERSION, "bridge": __version__}


_Reports = dict[str, Report]
"""By what identifies a CLI's file, the newest last."""


async def report_for(
    cli: Path,
    folder: Path,
    *,
    probing: Callable[[Path], Awaitable[Report]] = probe,
    say: Callable[[str], None] = logger.info,
) -> Report:
    """What this CLI can do: shipped, kept in the folder, or found out now and kept there.

    A report of a CLI that the bridge cannot use is not kept: the next start looks again. Raises
    ProbeError and OSError where the CLI cannot be run or read.
    """
    shipped = shipped_report(cli)
    if shipped is not None:
        return shipped
    file = folder / FILE_NAME
    kept = _read(file)
    identity = _identity(cli)
    report = kept.get(identity)
    if report is None:
        say(f"checking what {cli} can do (once per version, takes some seconds)")
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
        logger.info("%s is not used: %r", file, error)
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
    """Replace the file at once, readable by its owner only. One that cannot be is left."""
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
        # Made with mode 0600.
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
        logger.warning("what this Claude Code can do could not be kept: %s", error)
