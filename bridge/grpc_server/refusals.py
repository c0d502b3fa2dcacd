"""Requests that cannot be read, told to the core, which knows of the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridge.core.contract import CompletionRequest, Service
from bridge.grpc_server.caller import current_caller
from bridge.grpc_server.request_id import current_request_id


@contextmanager
def noting_refusals(service: Service, model: str | None) -> Iterator[None]:
    """Have the core take note of a request for this model that cannot be read."""
    try:
        yield
    except Exception as error:
        asked = CompletionRequest(
            (),
            model=model or None,
            request_id=current_request_id.get(),
            caller=current_caller(),
            door="grpc",
        )
        service.refused(asked, error)
        raise
