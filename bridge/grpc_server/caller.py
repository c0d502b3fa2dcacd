"""Who calls."""

from __future__ import annotations

from typing import Any

import grpc


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Name the key that a call came with. Empty: the door asks for none yet."""
    return ""
