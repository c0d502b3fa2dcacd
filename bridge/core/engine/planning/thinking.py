"""Whose thinking it is that callers send back: a model accepts its own only.

A signature does not name its model, and callers do not either, so the signatures that were given
out are remembered. Thinking of unknown origin, such as from before a restart, is taken for the
asked model's own: the CLI asks again without it if the API refuses it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from bridge.core.contract import (
    CompletionRequest,
    EncryptedThinking,
    Event,
    Message,
    Part,
    Place,
    ThinkingPart,
    ThinkingSignature,
)

KEPT: Final = 10_000
"""Signatures that are remembered: a megabyte."""

_LONG_CONTEXT: Final = "[1m]"
"""The CLI's suffix of a model with a larger window: the same model."""


class ThinkingOrigins:
    """Remembers which model signed which thinking."""

    def __init__(self, keep: int = KEPT) -> None:
        self._keep = keep
        self._models: OrderedDict[bytes, str] = OrderedDict()

    def note(self, event: Event, model: str) -> None:
        """Remember the thinking of an answer by `model`."""
        match event:
            case ThinkingSignature(signed) | EncryptedThinking(signed):
                self._models[_key(signed)] = model
                while len(self._models) > self._keep:
                    self._models.popitem(last=False)

    def without_others(
        self, request: CompletionRequest, model: str
    ) -> tuple[CompletionRequest, tuple[str, ...]]:
        """Leave out the thinking that `model` would refuse; return the name of what was left out.

        That is another model's, what has no signature, and what nothing follows in its message:
        an answer that was cut while the model thought.
        """
        if not any(
            isinstance(part, ThinkingPart) for each in request.messages for part in each.parts
        ):
            return request, ()
        messages = tuple(self._own(message, model) for message in request.messages)
        if messages == request.messages:
            return request, ()
        name = request.field_names(Place("messages.parts.thinking"))
        kept = tuple(message for message in messages if message.parts)
        return replace(request, messages=kept), (name,)

    def _own(self, message: Message, model: str) -> Message:
        parts = list(self._accepted(message, model))
        while parts and isinstance(parts[-1], ThinkingPart):
            parts.pop()
        return replace(message, parts=tuple(parts))

    def _accepted(self, message: Message, model: str) -> Iterator[Part]:
        for part in message.parts:
            if isinstance(part, ThinkingPart):
                signed = part.signature or part.encrypted
                origin = self._models.get(_key(signed), model)
                if not signed or _bare(origin) != _bare(model):
                    continue
            yield part


def _bare(model: str) -> str:
    return model.lower().removesuffix(_LONG_CONTEXT)


def _key(signed: str) -> bytes:
    return hashlib.sha256(signed.encode("utf-8", "surrogatepass")).digest()[:16]
