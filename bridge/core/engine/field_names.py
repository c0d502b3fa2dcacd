"""Errors of what knows nothing of the request: their fields, in its caller's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridge.core.contract import (
    CompletionRequest,
    InvalidRequestError,
    ModelNotFoundError,
    PermissionDeniedError,
    Place,
)


@contextmanager
def errors_named_for(request: CompletionRequest) -> Iterator[None]:
    """Name the field of an error as the caller of the request does, and not as the core."""
    try:
        yield
    except (InvalidRequestError, ModelNotFoundError, PermissionDeniedError) as error:
        if error.field is not None:
            error.field = request.field_names(Place(error.field))
        raise
