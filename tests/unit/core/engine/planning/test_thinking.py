"""Which thinking a model gets back."""

from __future__ import annotations

from bridge.core.contract.events import EncryptedThinking, TextDelta, ThinkingSignature
from bridge.core.contract.request import CompletionRequest, Message, Part, TextPart, ThinkingPart
from bridge.core.engine.planning.thinking import ThinkingOrigins
from tests.support.harness import assistant, user

OPUS, SONNET = "claude-opus-5", "claude-sonnet-5"
TEXT = TextPart("answer")
NAME = "messages.parts.thinking"


def kept(
    origins: ThinkingOrigins, model: str, *parts: Part
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    request = CompletionRequest((user("q"), assistant(*parts), user("r")))
    found, dropped = origins.without_others(request, model)
    return found.messages[1:-1], dropped


def test_a_model_gets_its_own_thinking_and_no_others() -> None:
    origins = ThinkingOrigins()
    origins.note(ThinkingSignature("a"), OPUS)
    origins.note(EncryptedThinking("b"), SONNET)
    origins.note(TextDelta("c"), SONNET)
    own, other = ThinkingPart("hm", "a"), ThinkingPart(encrypted="b")

    assert kept(origins, OPUS, own, TEXT) == ((assistant(own, TEXT),), ())
    assert kept(origins, f"{OPUS}[1m]", own, TEXT) == ((assistant(own, TEXT),), ())
    assert kept(origins, OPUS, own, other, TEXT) == ((assistant(own, TEXT),), (NAME,))
    assert kept(origins, SONNET, own, other, TEXT) == ((assistant(other, TEXT),), (NAME,))


def test_thinking_of_unknown_origin_is_tried() -> None:
    unknown = ThinkingPart("hm", "z")

    assert kept(ThinkingOrigins(), OPUS, unknown, TEXT) == ((assistant(unknown, TEXT),), ())


def test_thinking_without_a_signature_or_without_an_answer_is_left_out() -> None:
    origins = ThinkingOrigins()
    signed = ThinkingPart("hm", "a")

    assert kept(origins, OPUS, ThinkingPart("hm"), TEXT) == ((assistant(TEXT),), (NAME,))
    assert kept(origins, OPUS, TEXT, signed) == ((assistant(TEXT),), (NAME,))
    assert kept(origins, OPUS, signed) == ((), (NAME,))


def test_the_oldest_signatures_are_forgotten() -> None:
    origins = ThinkingOrigins(keep=1)
    origins.note(ThinkingSignature("a"), SONNET)
    origins.note(ThinkingSignature("b"), SONNET)
    first, second = ThinkingPart("hm", "a"), ThinkingPart("hm", "b")

    assert kept(origins, OPUS, first, second, TEXT) == ((assistant(first, TEXT),), (NAME,))
