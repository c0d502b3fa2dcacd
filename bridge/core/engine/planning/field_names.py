"""Renames the fields in errors of modules that do not know the request's API."""

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
    """Replace the core's field name in an error by the name in the caller's API."""
    try:
        yield
    except (InvalidRequestError, ModelNotFoundError, PermissionDeniedError) as error:
        if error.field is not None:
            error.field = request.field_names(Place(error.field))
        raise
