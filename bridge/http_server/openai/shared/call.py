"""The result of decoding: the neutral request, and how the answer is to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bridge.core.contract import CompletionRequest, Effort, Sampling, UnsupportedError
from bridge.http_server.openai.shared.wire import Moderation, StreamOptions
from bridge.http_server.wire import Ignored

EFFORTS: Final[Mapping[str, Effort]] = {
    "none": Effort.NONE,
    "minimal": Effort.NONE,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.XHIGH,
    "max": Effort.MAX,
}


@dataclass(frozen=True, slots=True)
class Call:
    """A requested completion, with what concerns only its reply."""

    request: CompletionRequest
    stream: bool = False
    include_usage: bool = False
    function_call_form: bool = False
    """Whether calls are answered in the deprecated form, because they were offered in it."""
    metadata: Mapping[str, str] | None = None
    """What the caller wants to find in the reply again."""


def wants_usage(options: StreamOptions | None) -> bool:
    """Decode `stream_options`. Its other option asks for padding, which is never sent."""
    return options is not None and options.include_usage is True


def decode_sampling(
    temperature: float | None, top_p: float | None, stop: str | list[str] | None, ignored: Ignored
) -> Sampling:
    """Decode the sampling parameters."""
    if temperature is not None and temperature > 1:
        # OpenAI's maximum is 2, Claude's is 1.
        ignored.add("temperature", why="is reduced to 1, Claude's maximum")
        temperature = 1.0
    texts = [stop] if isinstance(stop, str) else stop or []
    return Sampling(temperature, top_p, tuple(text for text in texts if text))


def refuse_blocking(moderation: Moderation | None) -> None:
    """Raise if moderation could block the answer: this server has none."""
    policy = None if moderation is None else moderation.policy
    if policy is None:
        return
    for name, side in (("input", policy.input), ("output", policy.output)):
        if side is not None and side.mode == "block":
            raise UnsupportedError(
                "This server does not support moderation, so it cannot block. Omit 'moderation'.",
                field=f"moderation.policy.{name}.mode",
            )
