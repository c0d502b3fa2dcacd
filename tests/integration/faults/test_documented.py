"""docs/reliability.md names tests that there are, and every test of a fault."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.support.paths import ROOT

HERE = Path(__file__).parent

DOCUMENT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def functions_of(path: Path) -> set[str]:
    """The names of the test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def named() -> set[tuple[Path, str]]:
    """The tests that the document names, by file."""
    pairs = re.findall(r"`([\w/]+\.py)::(test_\w+)`", DOCUMENT)
    return {((ROOT if "/" in file else HERE) / file, test) for file, test in pairs}


def test_every_test_that_is_named_is_there() -> None:
    assert named()
    missing = [(path.name, test) for path, test in named() if test not in functions_of(path)]
    assert missing == []


def test_every_family_of_faults_is_told_of() -> None:
    families = {path for path in HERE.glob("test_*.py") if path != Path(__file__)}
    assert {path for path, _ in named()} >= families
