"""docs/architecture.md names every package, and nothing that does not exist."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text()


def packages() -> set[str]:
    folders = (path.parent for path in (ROOT / "bridge").rglob("__init__.py"))
    return {str(folder.relative_to(ROOT / "bridge")) for folder in folders} - {"."}


def drawn() -> set[str]:
    """The folders in the drawing, which are indented by two spaces a level."""
    drawing = TEXT.split("```")[1].removeprefix("\nbridge/\n")
    found: set[str] = set()
    above: list[str] = []
    for line in drawing.splitlines():
        indent = len(line) - len(line.lstrip())
        above = above[: indent // 2 - 1]
        above.append(line.split()[0].rstrip("/"))
        found.add("/".join(above))
    return found


def test_the_drawing_shows_every_package() -> None:
    assert drawn() == packages()


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(\w+/[\w/]*(?:\.\w+)?)`", TEXT))
    places = (ROOT, ROOT / "bridge", ROOT / "bridge" / "http_server")
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert len(named) > 20
    assert missing == set()
