"""How tests start the stand-in for the CLI."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.core.claude.processes.launch import Launcher
from bridge.core.claude.processes.process import Command
from bridge.core.claude.turn_settings import TurnSettings

FAKE_CLI = Path(__file__).with_name("fake_cli.py")


def fake_command(**how: Any) -> Command:
    """The command that starts it; its module's docstring lists the options."""
    argv = (sys.executable, "-I", "-S", str(FAKE_CLI), json.dumps(how))
    return Command(argv, {}, Path("/"))


@dataclass(frozen=True, slots=True)
class _FakeLauncher(Launcher):
    how: Mapping[str, Any] = field(default_factory=dict)

    def command(self, settings: TurnSettings | None = None) -> Command:
        return replace(fake_command(**self.how), cwd=self.folder)


def fake_launcher(**how: Any) -> Launcher:
    """A launcher that starts it."""
    return _FakeLauncher(FAKE_CLI, {}, Path("/"), how=how)
