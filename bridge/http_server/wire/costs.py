"""What a reply says of its cost, in every dialect."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bridge.core.contract import Finished


def cost_object(end: Finished) -> dict[str, Any]:
    """Return what is added to the usage of a reply: nothing unless the request asks for it."""
    return {} if end.charge is None else {"cost": asdict(end.charge)}
