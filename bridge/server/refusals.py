"""Fields that the API has refused, kept between starts in a file in the state folder.

`bridge doctor --live` writes it; `bridge serve` reads it, so that its first requests do not fail
for a known reason. An unreadable file is ignored.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bridge.core.system import private_folder, replace_file

logger = logging.getLogger(__name__)

FILE_NAME: Final = "refusals.json"
KEPT_SECONDS: Final = 30 * 86_400.0
"""An older file is ignored: what an account may use changes."""


def read_refusals(folder: Path, now: float | None = None) -> dict[str, frozenset[str]]:
    """The refused fields by full model name."""
    file = folder / FILE_NAME
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        age = (time.time() if now is None else now) - float(kept["found_at"])
        refused = {str(model): frozenset(map(str, f)) for model, f in kept["refused"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        logger.warning("%s cannot be read and is ignored", file)
        return {}
    return refused if 0 <= age < KEPT_SECONDS else {}


def write_refusals(
    folder: Path, refused: Mapping[str, frozenset[str]], now: float | None = None
) -> None:
    """Replace the file. Raises OSError."""
    kept = {
        "found_at": time.time() if now is None else now,
        "refused": {model: sorted(fields) for model, fields in sorted(refused.items()) if fields},
    }
    private_folder(folder)
    replace_file(folder / FILE_NAME, json.dumps(kept, indent=1) + "\n")
