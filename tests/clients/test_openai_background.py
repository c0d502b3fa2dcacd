"""Responses in the background, with OpenAI's own client, through the real CLI."""

from __future__ import annotations

import time
from collections.abc import Iterator

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from tests.support.harness import PATIENCE, RunningBridge, sim

PENDING = ("queued", "in_progress")


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=base_url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def ended(client: openai.OpenAI, id: str) -> Response:
    """Poll as OpenAI's documentation does."""
    until = time.monotonic() + PATIENCE
    while (response := client.responses.retrieve(id)).status in PENDING:
        assert time.monotonic() < until
        time.sleep(0.02)
    return response


def test_a_response_is_polled_until_it_is_complete(client: openai.OpenAI) -> None:
    started = client.responses.create(
        model="opus", input=sim(text="A long story.", delay_ms=5), background=True
    )
    assert started.status in PENDING
    assert started.output == []

    whole = ended(client, started.id)

    assert (whole.status, whole.output_text, whole.background) == (
        "completed",
        "A long story.",
        True,
    )
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0
    on = client.responses.create(model="opus", input=sim(text="On."), previous_response_id=whole.id)
    assert on.output_text == "On."


def test_a_stream_that_was_cut_resumes_after_the_last_event(client: openai.OpenAI) -> None:
    """It begins with the reply, so that the id is known whenever it is cut."""
    seen: list[ResponseStreamEvent] = []
    with client.responses.create(
        model="opus", input=sim(tokens=200, delay_ms=5), background=True, stream=True
    ) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    assert seen[0].type == "response.created"
    id, last = seen[0].response.id, seen[-1].sequence_number

    with client.responses.retrieve(id, stream=True, starting_after=last) as rest:
        seen += rest

    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert text == seen[-1].response.output_text == ended(client, id).output_text
    with client.responses.retrieve(id, stream=True) as again:
        assert list(again) == seen


def test_a_response_is_cancelled(client: openai.OpenAI, bridge: RunningBridge) -> None:
    started = client.responses.create(
        model="opus", input=sim(endless=True, delay_ms=20), background=True
    )

    cancelled = client.responses.cancel(started.id)

    assert (cancelled.id, cancelled.status) == (started.id, "cancelled")
    assert client.responses.retrieve(started.id) == cancelled
    assert client.responses.cancel(started.id) == cancelled
    bridge.wait_until_settled()


def test_an_id_of_ones_own_pays_once(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    own = {"Idempotency-Key": marker}

    def ask(text: str, *, background: bool = False) -> Response:
        return client.responses.create(
            model="opus",
            input=f"{marker} {sim(text=text)}",
            background=background,
            extra_headers=own,
        )

    first = ask("Once.", background=True)
    second = ask("Once.", background=True)
    assert second.id == first.id
    assert ended(client, first.id).output_text == "Once."
    for text in ("Once.", "Twice."):
        with pytest.raises(openai.ConflictError) as refused:
            ask(text)
        assert refused.value.code == "request_id_reused"
    assert len(bridge.simulator.ledger.exchanges(containing=marker)) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_a_repeated_request_is_refused_at_once_whatever_the_client_retries(
    base_url: str, bridge: RunningBridge, marker: str, retries: int
) -> None:
    with openai.OpenAI(
        base_url=base_url, api_key="unused", max_retries=retries, timeout=PATIENCE
    ) as client:

        def ask() -> str | None:
            answer = client.chat.completions.create(
                model="opus",
                messages=[{"role": "user", "content": f"{marker} {sim(text='Once.')}"}],
                extra_headers={"Idempotency-Key": marker},
            )
            return answer.choices[0].message.content

        assert ask() == "Once."
        with pytest.raises(openai.ConflictError) as refused:
            ask()
    assert refused.value.code == "request_id_in_use"
    assert "use a new id" in refused.value.message
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(bridge.simulator.ledger.exchanges(containing=marker)) == 1
