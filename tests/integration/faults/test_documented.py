"""docs/reliability.md names a test in every file of faults."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.paths import ROOT

HERE = Path(__file__).parent

DOCUMENT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def named() -> set[Path]:
    """The files that the document names without a folder."""
    return {HERE / file for file in re.findall(r"`(\w+\.py)::test_", DOCUMENT)}


def test_every_family_of_faults_is_reported() -> None:
    families = {path for path in HERE.glob("test_*.py") if path != Path(__file__)}
    assert named() == families
