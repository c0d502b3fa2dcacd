"""The modules of the bridge, as the tests of its structure need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT


def modules() -> Iterator[tuple[Path, str]]:
    """Each module that is not generated, and its dotted name."""
    for path in sorted((ROOT / "bridge").rglob("*.py")):
        if "_pb2" not in path.name:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield path, name.removesuffix(".__init__")
