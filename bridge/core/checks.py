"""What the engine cannot do yet is refused here, by name, before anything is started."""

from __future__ import annotations

from bridge.core.errors import InvalidRequestError, UnsupportedError
from bridge.core.model import CompletionRequest, OutputKind


def check_supported(request: CompletionRequest) -> None:
    """Raise UnsupportedError for the first thing in the request that is not supported."""
    if not request.messages:
        raise InvalidRequestError("Send at least one message.", field="messages")
    if request.output_format.kind is OutputKind.JSON_OBJECT:
        raise UnsupportedError(
            "JSON without a schema is not supported yet: give a schema.", field="output_format"
        )
