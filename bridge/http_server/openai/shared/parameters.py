"""What becomes of each parameter: honoured, ignored in silence, ignored and named, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from bridge.core.contract import UnsupportedError


class Treatment(Enum):
    """What becomes of a parameter."""

    HONOURED = "honoured"
    SILENT = "silent"
    """Ignored, without a word: a hint, or bookkeeping on OpenAI's side."""
    NAMED = "named"
    """Ignored, and named in the reply unless its value changes nothing."""
    REFUSED = "refused"
    """An error, unless its value changes nothing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A treatment, and the values besides null that change nothing."""

    treatment: Treatment
    neutral: tuple[Any, ...] = ()


_HONOURED = Rule(Treatment.HONOURED)
_SILENT = Rule(Treatment.SILENT)
_NAMED = Rule(Treatment.NAMED)
_REFUSED = Rule(Treatment.REFUSED)

CHAT_PARAMETERS: Final[Mapping[str, Rule]] = {
    "messages": _HONOURED,
    "model": _HONOURED,
    "stream": _HONOURED,
    "stream_options": _HONOURED,
    "max_completion_tokens": _HONOURED,
    "max_tokens": _HONOURED,
    "temperature": _HONOURED,
    "top_p": _HONOURED,
    "stop": _HONOURED,
    "tools": _HONOURED,
    "tool_choice": _HONOURED,
    "parallel_tool_calls": _HONOURED,
    "functions": _HONOURED,
    "function_call": _HONOURED,
    "response_format": _HONOURED,
    "reasoning_effort": _HONOURED,
    "include_reasoning": _HONOURED,
    "metadata": _HONOURED,
    "n": Rule(Treatment.REFUSED, (1,)),
    "logprobs": Rule(Treatment.REFUSED, (False,)),
    "top_logprobs": Rule(Treatment.REFUSED, (0,)),
    "modalities": Rule(Treatment.REFUSED, ([], ["text"])),
    "audio": _REFUSED,
    "web_search_options": _REFUSED,
    "seed": _NAMED,
    "logit_bias": Rule(Treatment.NAMED, ({},)),
    "frequency_penalty": Rule(Treatment.NAMED, (0,)),
    "presence_penalty": Rule(Treatment.NAMED, (0,)),
    "verbosity": Rule(Treatment.NAMED, ("medium",)),
    "prediction": _NAMED,
    "moderation": _NAMED,
    "store": _SILENT,
    "user": _SILENT,
    "safety_identifier": _SILENT,
    "service_tier": _SILENT,
    "prompt_cache_key": _SILENT,
    "prompt_cache_options": _SILENT,
    "prompt_cache_retention": _SILENT,
}
"""`POST /v1/chat/completions`. A name that is not here is ignored and named."""

TEXT_COMPLETION_PARAMETERS: Final[Mapping[str, Rule]] = {
    "prompt": _HONOURED,
    "model": _HONOURED,
    "stream": _HONOURED,
    "stream_options": _HONOURED,
    "max_tokens": _HONOURED,
    "temperature": _HONOURED,
    "top_p": _HONOURED,
    "stop": _HONOURED,
    "n": Rule(Treatment.REFUSED, (1,)),
    "best_of": Rule(Treatment.REFUSED, (1,)),
    "echo": Rule(Treatment.REFUSED, (False,)),
    "suffix": Rule(Treatment.REFUSED, ("",)),
    "logprobs": _REFUSED,
    "seed": _NAMED,
    "logit_bias": Rule(Treatment.NAMED, ({},)),
    "frequency_penalty": Rule(Treatment.NAMED, (0,)),
    "presence_penalty": Rule(Treatment.NAMED, (0,)),
    "user": _SILENT,
}
"""The legacy `POST /v1/completions`. A name that is not here is ignored and named."""

RESPONSES_PARAMETERS: Final[Mapping[str, Rule]] = {
    "input": _HONOURED,
    "model": _HONOURED,
    "instructions": _HONOURED,
    "previous_response_id": _HONOURED,
    "store": _HONOURED,
    "stream": _HONOURED,
    "stream_options": _HONOURED,
    "tools": _HONOURED,
    "tool_choice": _HONOURED,
    "parallel_tool_calls": _HONOURED,
    "text": _HONOURED,
    "reasoning": _HONOURED,
    "max_output_tokens": _HONOURED,
    "temperature": _HONOURED,
    "top_p": _HONOURED,
    "metadata": _HONOURED,
    "include": _HONOURED,
    "background": Rule(Treatment.REFUSED, (False,)),
    "conversation": _REFUSED,
    "prompt": _REFUSED,
    "top_logprobs": Rule(Treatment.REFUSED, (0,)),
    "background_options": _NAMED,
    "truncation": Rule(Treatment.NAMED, ("disabled",)),
    "context_management": Rule(Treatment.NAMED, ([],)),
    "image": _NAMED,
    "access_programs": _NAMED,
    "moderation": _NAMED,
    # It bounds the calls of hosted tools, and there are none.
    "max_tool_calls": _SILENT,
    "user": _SILENT,
    "safety_identifier": _SILENT,
    "service_tier": _SILENT,
    "prompt_cache_key": _SILENT,
    "prompt_cache_options": _SILENT,
    "prompt_cache_retention": _SILENT,
}
"""`POST /v1/responses`. A name that is not here is ignored and named."""


class Ignored:
    """The parameters of a request that have no effect; in strict mode the first is an error."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._names: dict[str, None] = {}

    def add(
        self, name: str, field: str | None = None, *, why: str = "has no effect on this server"
    ) -> None:
        """Note one, by its name; `field` says where it is if that is more than the name."""
        if self._strict:
            raise UnsupportedError(
                f"'{field or name}' {why}, and the request is strict. "
                "Leave it out, or do without strict mode.",
                field=field or name,
                reason="UNSUPPORTED_PARAMETER",
            )
        self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        """All that were noted, each once."""
        return tuple(self._names)


def apply_rules(rules: Mapping[str, Rule], body: Mapping[str, Any], ignored: Ignored) -> None:
    """Refuse what must be refused, and note what is ignored. Null counts as absent."""
    for name, value in body.items():
        rule = rules.get(name, _NAMED)
        if value is None or value in rule.neutral:
            continue
        match rule.treatment:
            case Treatment.REFUSED:
                raise UnsupportedError(
                    f"This server does not support '{name}' with this value. Leave it out.",
                    field=name,
                )
            case Treatment.NAMED:
                ignored.add(name)
            case Treatment.HONOURED | Treatment.SILENT:
                pass
