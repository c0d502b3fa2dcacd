"""Legacy text completion requests: a prompt is one user message."""

from __future__ import annotations

from typing import Final

from bridge.core.contract import (
    CompletionRequest,
    Faults,
    FieldNames,
    Message,
    Role,
    TextPart,
    UnsupportedError,
)
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.completions.wire import TextCompletionRequest
from bridge.http_server.openai.shared.call import Call, decode_sampling, wants_usage
from bridge.http_server.wire import Ignored, apply_rules, names_by, parse

_NAMES: Final[FieldNames] = names_by(
    {
        r"max_output_tokens": "max_tokens",
        r"messages": "prompt",
        r"sampling\.(temperature|top_p|stop).*": r"\1",
    },
    lambda where, rest: where,
)


def decode_text_completion(body: object, options: CallOptions) -> Call:
    """Decode the body of `POST /v1/completions`."""
    wire = parse(TextCompletionRequest, body)
    ignored = Ignored(strict=options.strict)
    faults = Faults()
    with faults:
        message = Message(Role.USER, (TextPart(_prompt(wire)),), origin="prompt")
    with faults:
        sampling = decode_sampling(wire.temperature, wire.top_p, wire.stop, ignored)
    include_usage = wants_usage(wire.stream_options)
    with faults:
        apply_rules(wire, body, ignored)
    faults.raise_any()
    request = CompletionRequest(
        messages=(message,),
        model=wire.model or None,
        sampling=sampling,
        max_output_tokens=wire.max_tokens,
        ignored=ignored.names,
        field_names=_NAMES,
    )
    return Call(request, stream=wire.stream is True, include_usage=include_usage)


def _prompt(wire: TextCompletionRequest) -> str:
    texts = [wire.prompt] if isinstance(wire.prompt, str) else wire.prompt
    text = texts[0] if len(texts) == 1 else None
    if isinstance(text, str):
        return text
    raise UnsupportedError(
        "'prompt' must be one string. Send several prompts in separate requests, and text instead "
        "of tokens.",
        field="prompt",
    )
