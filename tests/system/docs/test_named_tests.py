"""The tests and the test files that documents and code name exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.system.docs.test_docs import DOCUMENTS

# Files of docs/reliability.md without a folder.
FAULTS = ROOT / "tests" / "integration" / "faults"

_FILE = re.compile(r"(?<![\w/])((?:[\w.]+/)*test_\w+\.py)\b|(?<![\w/])(tests/[\w/]+\.py)\b")
_TEST = re.compile(r"(?:([\w/]+\.py)::)?(?<![\w/.])(test_\w+)\b(?!\.py)")

SOURCES = sorted(
    path
    for folder in ("bridge", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
    if "_pb2" not in path.name
)


@cache
def functions_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions)


@cache
def all_tests() -> frozenset[str]:
    return frozenset().union(*(functions_of(file) for file in (ROOT / "tests").rglob("test_*.py")))


def wrong_names(text: str) -> list[str]:
    """The named files and tests that do not exist."""

    def place(file: str) -> Path:
        return (ROOT if "/" in file else FAULTS) / file

    files = {match[1] or match[2] for match in _FILE.finditer(text)}
    wrong = [file for file in files if not place(file).is_file()]
    for file, test in _TEST.findall(text):
        known = functions_of(place(file)) if file and file not in wrong else all_tests()
        if test not in known:
            wrong.append(f"{file}::{test}" if file else test)
    return sorted(wrong)


@pytest.mark.parametrize(
    "file", [*DOCUMENTS, *SOURCES], ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_is_named_exists(file: Path) -> None:
    assert wrong_names(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "`test_death.py::test_gone`",
        "`tests/system/docs/test_docs.py::test_gone`",
        "see test_gone_from_every_file",
        "`test_gone.py::test_whatever_its_processes_do`",
        "tests/system/docs/gone.py",
    ],
)
def test_what_does_not_exist_is_found(text: str) -> None:
    assert wrong_names(text) != []


def test_what_exists_is_not_reported() -> None:
    text = "`test_death.py::test_whatever_its_processes_do`, tests/system/docs/settings_page.py"
    assert wrong_names(text) == []
