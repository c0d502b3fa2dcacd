"""How tests make a CLI that lacks something."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from bridge.server.launching import bundled_cli

PROGRAM = Path(__file__).with_name("lacking_cli.py")


def cli_without(folder: Path, *names: str) -> Path:
    """A program that is the real CLI but for what is named in `lacking_cli.LACKS`."""
    words = [sys.executable, "-I", "-S", str(PROGRAM), str(bundled_cli()), json.dumps(names)]
    program = folder / f"claude-without-{'-'.join(names) or 'nothing'}"[:100]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    return program
