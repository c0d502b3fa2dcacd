"""The report for the CLI of the pinned SDK: made when the SDK is pinned, and shipped.

`make probe` writes it. It is valid for the CLI as installed from the SDK's wheel, on every
platform: all wheels contain the same program.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.report import Report

SDK = "claude-agent-sdk"
FILE = Path(__file__).with_name("bundled.json")


@dataclass(frozen=True, slots=True)
class Shipped:
    """The SDK and CLI versions that the shipped report is for, and the behaviours found."""

    sdk: str
    cli: str
    behaviours: Sequence[str]

    @classmethod
    def read(cls, file: Path = FILE) -> Shipped:
        """Read the report in the package."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path = FILE) -> None:
        """Replace the report in the source tree."""
        data = {"sdk": self.sdk, "cli": self.cli, "behaviours": list(self.behaviours)}
        file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def shipped_report(cli: Path, shipped: Shipped | None = None) -> Report | None:
    """Return the report for this CLI if it is the unchanged one of the pinned SDK, else None.

    The CLI is not read: it is identified by the SDK's version, the version file beside it and its
    size, compared with the wheel's RECORD
    (https://packaging.python.org/en/latest/specifications/recording-installed-packages/).
    """
    shipped = shipped or Shipped.read()
    if installed_versions(cli) != (shipped.sdk, shipped.cli):
        return None
    if set(shipped.behaviours) != {behaviour.id for behaviour in BEHAVIOURS}:
        return None
    return Report(shipped.cli, dict.fromkeys(shipped.behaviours, True))


def installed_versions(cli: Path, sdk: Distribution | None = None) -> tuple[str, str] | None:
    """Return the versions of the installed SDK and its CLI; None if `cli` is not from that SDK."""
    try:
        sdk = sdk or distribution(SDK)
        for file in sdk.files or ():
            installed = Path(str(file.locate()))
            if file.name == cli.name and installed.resolve() == cli.resolve():
                if file.size != installed.stat().st_size:
                    return None
                version = installed.with_name(f"{cli.name}.version").read_text(encoding="utf-8")
                return sdk.version, version.split(" ")[0]
    except (PackageNotFoundError, OSError, ValueError):
        return None
    return None
