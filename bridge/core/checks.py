"""What the engine cannot do yet is refused here, by name, before anything is started."""

from __future__ import annotations

from bridge.core.errors import InvalidRequestError, UnsupportedError
from bridge.core.model import CompletionRequest, OutputKind, TextPart


def check_supported(request: CompletionRequest) -> None:
    """Raise UnsupportedError for the first thing in the request that is not supported."""
    if not request.messages:
        raise InvalidRequestError("Send at least one message.", field="messages")
    for message in request.messages:
        for part in message.parts:
            if not isinstance(part, TextPart):
                raise UnsupportedError(
                    "Only text is supported in messages for now.", field=message.origin
                )
    sampling = request.sampling
    unsupported = {
        "tools": bool(request.tools),
        "temperature": sampling.temperature is not None,
        "top_p": sampling.top_p is not None,
        "stop": bool(sampling.stop),
        "output_format": request.output_format.kind is not OutputKind.TEXT,
        "effort": request.effort is not None,
        "include_thinking": request.include_thinking,
    }
    for field, given in unsupported.items():
        if given:
            raise UnsupportedError(f"{field} is not supported yet: leave it out.", field=field)
