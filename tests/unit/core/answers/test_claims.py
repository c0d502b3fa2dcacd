"""The callers' own request ids: what is equal, who may use an id again, and when it is free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.core.answers.claims import Claims, digest_of
from bridge.core.contract.errors import RequestIdInUseError
from bridge.core.contract.request import (
    CompletionRequest,
    Message,
    Place,
    Role,
    Sampling,
    TextPart,
    Tool,
)

ASKED = CompletionRequest(
    (Message(Role.USER, (TextPart("Hello?"),), origin="messages[0]"),),
    tools=(Tool("look", parameters={"type": "object", "properties": {}}),),
    client_request_id="order-1",
    request_id="req_1",
    owner="laptop:1",
)
DIGEST = digest_of(ASKED, detached=False)


@pytest.mark.parametrize(
    "same",
    [
        replace(ASKED, request_id="req_2", client_request_id="order-2", api="grpc"),
        replace(ASKED, timeout=3.0, idle_timeout=1.0, queue_timeout=1.0, first_token_timeout=1.0),
        replace(ASKED, messages=(replace(ASKED.messages[0], origin="input[0]"),)),
        replace(ASKED, tools=(Tool("look", parameters={"properties": {}, "type": "object"}),)),
    ],
)
def test_a_retry_is_equal(same: CompletionRequest) -> None:
    assert digest_of(same, detached=False) == DIGEST


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, messages=(Message(Role.USER, (TextPart("Hello!"),)),)),
        replace(ASKED, messages=(Message(Role.ASSISTANT, (TextPart("Hello?"),)),)),
        replace(ASKED, model="opus"),
        replace(ASKED, sampling=Sampling(temperature=0.5)),
        replace(ASKED, labels={"team": "search"}),
        replace(ASKED, tools=(Tool("look", parameters={"type": "object"}),)),
    ],
)
def test_another_request_is_not_equal(other: CompletionRequest) -> None:
    assert digest_of(other, detached=False) != DIGEST


def test_a_detached_request_is_another_one() -> None:
    assert digest_of(ASKED, detached=True) != DIGEST


def test_text_that_is_no_unicode_is_compared_too() -> None:
    odd = replace(ASKED, system="\ud800")
    assert digest_of(odd, detached=False) != DIGEST


def test_an_id_is_taken_while_its_request_runs() -> None:
    claims = Claims(600.0, 10)
    claim, new = claims.claim(ASKED, DIGEST, 0.0, detached=False)
    assert new
    with pytest.raises(RequestIdInUseError, match="waiting for its answer") as waiting:
        claims.claim(ASKED, DIGEST, 1_000_000.0, detached=False)
    assert waiting.value.retryable
    claim.answered = True
    with pytest.raises(RequestIdInUseError, match="being answered") as running:
        claims.claim(ASKED, DIGEST, 1_000_000.0, detached=False)
    assert (running.value.retryable, running.value.field) == (False, "client_request_id")


def test_the_error_names_the_field_of_the_api() -> None:
    def names(place: Place) -> str:
        return {"client_request_id": "Idempotency-Key"}[place.path]

    claims = Claims(600.0, 10)
    asked = replace(ASKED, field_names=names)
    claims.claim(asked, DIGEST, 0.0, detached=False)
    with pytest.raises(RequestIdInUseError) as same:
        claims.claim(asked, DIGEST, 0.0, detached=False)
    with pytest.raises(RequestIdInUseError) as other:
        claims.claim(asked, b"other", 0.0, detached=False)
    assert same.value.field == other.value.field == "Idempotency-Key"


def test_an_id_without_an_answer_is_free_again() -> None:
    claims = Claims(600.0, 10)
    claim, _ = claims.claim(ASKED, DIGEST, 0.0, detached=False)
    claims.end(claim, 1.0)
    _, new = claims.claim(ASKED, b"another", 1.0, detached=False)
    assert new


def test_an_id_stays_taken_for_some_time_after_the_answer() -> None:
    claims = Claims(600.0, 10)
    claim, _ = claims.claim(ASKED, DIGEST, 0.0, detached=False)
    claim.answered = True
    claims.end(claim, 100.0)
    with pytest.raises(RequestIdInUseError, match="answered already") as taken:
        claims.claim(ASKED, DIGEST, 699.0, detached=False)
    assert not taken.value.retryable
    _, new = claims.claim(ASKED, DIGEST, 700.0, detached=False)
    assert new


def test_another_request_with_the_same_id_is_refused() -> None:
    claims = Claims(600.0, 10)
    claims.claim(ASKED, DIGEST, 0.0, detached=True)
    with pytest.raises(RequestIdInUseError, match="Use a new id") as refused:
        claims.claim(ASKED, b"another", 0.0, detached=True)
    assert (refused.value.reason, refused.value.retryable) == ("REQUEST_ID_REUSED", False)


def test_an_equal_detached_request_finds_the_first() -> None:
    claims = Claims(600.0, 10)
    first, _ = claims.claim(ASKED, DIGEST, 0.0, detached=True)
    again = replace(ASKED, request_id="req_2")
    assert claims.claim(again, DIGEST, 0.0, detached=True) == (first, False)
    assert claims.request_id("laptop:1", "order-1") == "req_1"


def test_two_keys_may_use_the_same_id() -> None:
    claims = Claims(600.0, 10)
    claims.claim(ASKED, DIGEST, 0.0, detached=False)
    _, new = claims.claim(replace(ASKED, owner="phone:2"), DIGEST, 0.0, detached=False)
    assert new
    assert claims.request_id("phone:2", "order-2") is None


def test_the_oldest_ids_are_given_up_beyond_the_limit() -> None:
    claims = Claims(600.0, 2)
    running, _ = claims.claim(replace(ASKED, client_request_id="r"), DIGEST, 0.0, detached=False)
    for id in ("a", "b", "c"):
        claim, _ = claims.claim(replace(ASKED, client_request_id=id), DIGEST, 0.0, detached=False)
        claim.answered = True
        claims.end(claim, 1.0)
    held = {id for id in "rabc" if claims.request_id("laptop:1", id)}
    assert held == {"r", "c"}
    claims.end(running, 2.0)
