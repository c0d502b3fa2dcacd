"""The Conversations API of OpenAI's own client, through the real CLI."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.support.harness import PATIENCE, RunningBridge, sim


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=base_url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def test_a_conversation_is_kept_and_changed(client: openai.OpenAI) -> None:
    made = client.conversations.create(
        items=[{"role": "user", "content": "one"}], metadata={"topic": "rivers"}
    )
    assert client.conversations.retrieve(made.id) == made
    assert client.conversations.update(made.id, metadata={"a": "b"}).metadata == {"a": "b"}
    added = client.conversations.items.create(
        made.id, items=[{"role": "assistant", "content": "two"}, {"role": "user", "content": "3"}]
    )
    assert [item.type for item in added.data] == ["message", "message"]
    listed = list(client.conversations.items.list(made.id, order="asc", limit=2))
    assert len(listed) == 3
    first = listed[0].id
    assert first is not None
    assert client.conversations.items.retrieve(first, conversation_id=made.id) == listed[0]
    assert client.conversations.items.delete(first, conversation_id=made.id).id == made.id
    assert len(list(client.conversations.items.list(made.id))) == 2
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.conversations.retrieve(made.id)


def test_responses_go_on_in_a_conversation(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    conversation = client.conversations.create()
    first = client.responses.create(
        model="opus", conversation=conversation.id, input=f"{marker} {sim(text='One.')}"
    )
    second = client.responses.create(
        model="opus", conversation=conversation.id, input=sim(text="Two.")
    )

    assert (first.output_text, second.output_text) == ("One.", "Two.")
    assert second.conversation is not None
    assert second.conversation.id == conversation.id
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    roles = [message["role"] for message in exchange.messages if message["role"] != "system"]
    assert roles == ["user", "assistant", "user"]
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.type for item in items] == ["message"] * 4
    counted = client.responses.input_tokens.count(model="opus", conversation=conversation.id)
    assert counted.input_tokens > 0
