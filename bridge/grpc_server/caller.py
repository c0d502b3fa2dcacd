"""Who makes the call that is being served."""

from __future__ import annotations

from contextvars import ContextVar

from bridge.core.access import ANYONE, Grant

current_grant: ContextVar[Grant] = ContextVar("current_grant", default=ANYONE)
"""By which key the call came in. Set by the interceptor for the task of each call."""


def current_caller() -> str:
    """The name of the call's key; empty where none is asked for."""
    return current_grant.get().name
