"""How tests start the stand-in for the CLI."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bridge.core.process import Command

FAKE_CLI = Path(__file__).with_name("fake_cli.py")


def fake_command(**how: Any) -> Command:
    """The command that starts it; what it can be told stands at its head."""
    argv = (sys.executable, "-I", "-S", str(FAKE_CLI), json.dumps(how))
    return Command(argv, {}, Path("/"))
