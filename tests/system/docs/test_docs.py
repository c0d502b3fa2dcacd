"""The documents are correct: the settings they list, and the places they link to."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bridge.server.settings import Settings
from tests.support.paths import ROOT
from tests.system.docs.settings_page import FILE, page

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
_VARIABLE = re.compile(r"\b(BRIDGE_[A-Z][A-Z_]+[A-Z])\b(?!\*)")

# Of clients and of the tests, not of the server.
_OTHERS = {"BRIDGE_API_KEY", "BRIDGE_KEY", "BRIDGE_TEST_SCALE"}


def test_the_page_of_settings_is_the_settings() -> None:
    assert FILE.read_text() == page(), "regenerate it: python -m tests.system.docs.settings_page"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(document: Path) -> None:
    targets = [t for t in _LINK.findall(document.read_text()) if "://" not in t]
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_that_is_named_exists(document: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | _OTHERS
    assert set(_VARIABLE.findall(document.read_text())) <= known


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_document_can_be_reached_from_the_readme(document: Path) -> None:
    assert f"docs/{document.name}" in (ROOT / "README.md").read_text()


def test_nothing_installs_this_project_by_its_name() -> None:
    """On the package index that is the name of another project."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    by_name = re.compile(
        r"(pip|pipx|uv( tool| pip)?|uvx) *(install|run|add|inject)?"
        r"[^\n]*[ \"']claude-code-bridge(\[[a-z,]*\])?(==|[\"' )`]|$)",
        re.MULTILINE,
    )
    assert by_name.search("pip install --upgrade 'claude-code-bridge[demo]'")
    found = {}
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if path.is_file() and path != Path(__file__).resolve():
            text = path.read_bytes().decode(errors="ignore")
            if match := by_name.search(text):
                found[name] = match[0]
    assert found == {}
