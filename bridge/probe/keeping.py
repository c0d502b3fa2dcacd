"""The results of probes, kept in a file between starts.

A result is kept by the binary's hash; the hash itself by the file's place, size and time, since
hashing takes about a second. What cannot be read, or is of another list, counts as not there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.core.system import private_file, private_folder
from bridge.probe.behaviours import BEHAVIOURS, LIST_VERSION
from bridge.probe.hashing import sha256_of
from bridge.probe.report import Report, missing
from bridge.probe.run import probe

logger = logging.getLogger(__name__)

FILE_NAME = "probe.json"
"""Its name in the state folder."""

_KEEP = 8
# A new bridge may use the CLI in new ways.
_LIST = {"version": LIST_VERSION, "bridge": __version__}


@dataclass(slots=True)
class _Kept:
    hashes: dict[str, list[Any]] = field(default_factory=dict)
    """By the file's path: its size, its time in nanoseconds, its hash."""
    reports: dict[str, Report] = field(default_factory=dict)
    """By the binary's hash, the newest last."""


async def report_for(
    cli: Path,
    folder: Path,
    *,
    probing: Callable[[Path], Awaitable[Report]] = probe,
    say: Callable[[str], None] = logger.info,
) -> Report:
    """What this CLI can do: as kept in the folder, or found out now and kept there.

    A report of a CLI that the bridge cannot use is not kept: the next start looks again. Raises
    ProbeError and OSError where the CLI cannot be run or read.
    """
    file = folder / FILE_NAME
    kept = _read(file)
    stamp = _stamp(cli)
    *known, sha256 = kept.hashes.get(str(cli), [""])
    changed = known != stamp
    if changed:
        sha256 = await sha256_of(cli)
        kept.hashes[str(cli)] = [*stamp, sha256]
    report = kept.reports.get(sha256)
    if report is None:
        say("checking what this Claude Code can do (once per version, some seconds)")
        report = await probing(cli)
        changed = not missing(report)
        kept.reports[sha256] = report
    if changed:
        _write(file, kept)
    return report


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _read(file: Path) -> _Kept:
    try:
        private_file(file)
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["list"] != _LIST:
            return _Kept()
        reports = {sha256: _report(sha256, value) for sha256, value in data["reports"].items()}
        hashes = {
            str(path): [int(size), int(time), str(sha256)]
            for path, (size, time, sha256) in data["hashes"].items()
        }
    except FileNotFoundError:
        return _Kept()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.info("%s is not used: %r", file, error)
        return _Kept()
    return _Kept(hashes, {sha256: r for sha256, r in reports.items() if r is not None})


def _report(sha256: str, value: dict[str, Any]) -> Report | None:
    found = {str(id): held is True for id, held in value["found"].items()}
    if found.keys() != {behaviour.id for behaviour in BEHAVIOURS}:
        return None
    report = Report(
        str(value["cli_version"]),
        sha256,
        found,
        frozenset(map(str, value["at_start"])),
        {str(id): str(why) for id, why in value["details"].items()},
    )
    return None if missing(report) else report


def _write(file: Path, kept: _Kept) -> None:
    """Replace the file at once, readable by its owner only. One that cannot be is left."""
    data = {
        "list": _LIST,
        "hashes": dict(list(kept.hashes.items())[-_KEEP:]),
        "reports": {
            sha256: {
                "cli_version": report.cli_version,
                "found": dict(report.found),
                "at_start": sorted(report.at_start),
                "details": dict(report.details),
            }
            for sha256, report in list(kept.reports.items())[-_KEEP:]
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
