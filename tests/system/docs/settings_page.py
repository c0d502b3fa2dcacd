"""The page of settings, generated from the settings object.

`python -m tests.system.docs.settings_page` writes docs/settings.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from bridge.server.settings import Settings
from tests.support.paths import ROOT

FILE = ROOT / "docs" / "settings.md"

_HEAD = """\
# Settings

A flag of `bridge serve` (see `--help`) overrides the environment variable, which overrides the
default. If a value is invalid, the server does not start and lists what is allowed. The server and
`bridge doctor` warn about unknown `BRIDGE_…` variables. This page is generated from the code.

| variable | default | |
|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: Any) -> str:
    description = (field.description or "").replace("|", "\\|")
    return f"| `{name.upper()}` | {_default(field)} | {description} |\n"


def _default(field: Any) -> str:
    if field.default_factory is not None:
        value: Any = str(field.default_factory()).replace(str(Path.home()), "~")
    else:
        value = field.default
    if value is None or value is PydanticUndefined or value in ((), ""):
        return ""
    if isinstance(value, bool):
        value = int(value)
    elif isinstance(value, tuple):
        value = ",".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`"


if __name__ == "__main__":
    FILE.write_text(page())
