"""The id of the call that is being served."""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from typing import Final

REQUEST_ID_KEY: Final = "x-request-id"
"""The metadata key that carries the id to the client."""

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")
"""Set by the interceptor for the task of each call."""


def new_request_id() -> str:
    """Make an id that no other request has."""
    return f"req_{uuid.uuid4().hex}"
