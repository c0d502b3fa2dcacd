"""Legacy text completions."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.contract.request import CompletionRequest, Message, Role, Sampling, TextPart
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.completions.decode import decode_text_completion


def decode(*, strict: bool = False, **parameters: Any) -> CompletionRequest:
    options = CallOptions(request_id="req_1", strict=strict)
    return options.applied_to(
        decode_text_completion({"prompt": "hi", **parameters}, options).request
    )


@pytest.mark.parametrize("prompt", ["hi", ["hi"]])
def test_a_prompt_is_one_message_of_the_users(prompt: object) -> None:
    request = decode(prompt=prompt)

    assert request.messages == (Message(Role.USER, (TextPart("hi"),)),)
    assert request.messages[0].origin == "prompt"
    assert (request.system, request.api, request.request_id) == (None, "http", "req_1")


def test_what_is_honoured_reaches_the_core() -> None:
    request = decode(model="opus", max_tokens=5, temperature=0.5, top_p=0.9, stop=["x"])

    assert (request.model, request.max_output_tokens) == ("opus", 5)
    assert request.sampling == Sampling(0.5, 0.9, ("x",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("best_of", 1),
        ("echo", False),
        ("suffix", ""),
        ("user", "u"),
        ("logprobs", None),
        ("logit_bias", {}),
        ("frequency_penalty", 0),
        ("presence_penalty", 0),
    ],
)
def test_what_changes_nothing_passes_without_a_word(name: str, value: object) -> None:
    parameters: dict[str, Any] = {name: value}

    assert decode(strict=True, **parameters).ignored == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("logit_bias", {"1": 2}),
        ("frequency_penalty", 1),
        ("presence_penalty", 1),
        ("top_k", 5),
    ],
)
def test_what_has_no_effect_is_named(name: str, value: object) -> None:
    parameters: dict[str, Any] = {name: value}

    assert decode(**parameters).ignored == (name,)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": {"text": "hi"}}, "prompt"),
        ({"n": 2}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 0}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cannot_be_done_names_its_field(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(**parameters)

    assert caught.value.field == field


def test_a_prompt_is_required() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_text_completion({"model": "opus"}, CallOptions())

    assert caught.value.field == "prompt"
    assert caught.value.reason == "MISSING_REQUIRED_PARAMETER"
