"""Documents and search results that the model cites, by Anthropic's client and the real CLI."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.support.harness import PATIENCE, RunningBridge, sim
from tests.support.http.upstream import spoken, upstream

CITED: Any = {"citations": {"enabled": True}}
LOCATION = {
    "type": "content_block_location",
    "cited_text": "The grass is green.",
    "document_index": 0,
    "document_title": None,
    "start_block_index": 0,
    "end_block_index": 1,
    "file_id": None,
}
FOUND: Any = {
    "type": "search_result",
    "source": "https://a.example",
    "title": "Colours",
    "content": [{"type": "text", "text": "The grass "}, {"type": "text", "text": "is green."}],
}
ANSWER: list[dict[str, Any]] = [
    {"type": "text", "text": "According to it, "},
    {"type": "text", "text": "grass is green", "citations": [LOCATION, LOCATION]},
    {"type": "text", "text": "."},
]
TOOL: Any = {"name": "search", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
def client(bridge: RunningBridge) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=bridge.url, api_key="any", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def asked(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "opus", "max_tokens": 999, "messages": list(messages), **more}


def user(*blocks: Any) -> Any:
    return {"role": "user", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def document(*pieces: Any) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "content", "content": list(pieces)}, **CITED}


def test_documents_in_pieces_and_search_results_reach_the_model_as_they_are(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str, png_image: bytes
) -> None:
    data = base64.b64encode(png_image).decode()
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    }
    blocks = [
        {**document(text("The grass is green."), image), "title": "T", "context": "C"},
        {**FOUND, **CITED},
        text(f"{marker} " + sim(text="seen")),
    ]
    raw = client.messages.with_raw_response.create(**asked(user(*blocks)))

    assert spoken(upstream(bridge, marker))[0]["content"] == blocks
    assert "x-bridge-ignored-params" not in raw.headers


@pytest.mark.parametrize("later", [False, True], ids=["waiting", "replayed"])
def test_search_results_of_a_tool_reach_the_model_as_they_are(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str, later: bool
) -> None:
    question = user(text(f"{marker} " + sim(tools=[{"name": "search", "id": "toolu_1"}])))
    first = client.messages.create(**asked(question, tools=[TOOL]))
    content = [{**FOUND, **CITED}, document(text("a")), text(sim(text="It is green."))]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}
    # Another system prompt has another process, which gets the history replayed.
    other: Any = {"system": "Be kind."} if later else {}
    second = client.messages.create(
        **asked(question, first.to_param(), user(result), tools=[TOOL], **other)
    )

    assert getattr(second.content[0], "text", "") == "It is green."
    assert spoken(upstream(bridge, marker))[-1]["content"] == [result]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_its_citations(
    client: anthropic.Anthropic, marker: str, stream: bool
) -> None:
    request = asked(user(document(text("The grass is green.")), text(sim(blocks=ANSWER))))
    if stream:
        with client.messages.stream(**request) as events:
            kinds = [event.type for event in events]
            message = events.get_final_message()
        assert kinds.count("citation") == 2
    else:
        message = client.messages.create(**request)

    assert [block.to_dict() for block in message.content] == ANSWER


def test_an_answer_that_cites_nothing_is_one_text(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked(user(text(sim(blocks=ANSWER)))))

    assert [block.to_dict() for block in message.content] == [
        text("According to it, grass is green.")
    ]


@pytest.mark.parametrize("later", [False, True], ids=["continued", "replayed"])
def test_an_answer_goes_back_as_its_blocks_without_their_citations(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str, later: bool
) -> None:
    """Claude Code empties the list of citations of any answer, its own and those given to it."""
    turns = [{"text": "a"}, {"blocks": ANSWER}, {"text": "b"}]
    history = [user(document(text("a")), text(f"{marker} " + sim(turns=turns)))]
    for _ in range(2):
        history += [client.messages.create(**asked(*history)).to_param(), user(text("And?"))]
    before = continued(bridge)
    other: Any = {"system": "Be kind."} if later else {}
    raw = client.messages.with_raw_response.create(**asked(*history, **other))

    assert continued(bridge) == before + (0 if later else 1)
    assert raw.headers["x-bridge-ignored-params"] == "messages.content.citations"
    blocks = spoken(upstream(bridge, marker))[3]["content"]
    assert [block["text"] for block in blocks] == [block["text"] for block in ANSWER]
    assert not any(block.get("citations") for block in blocks)


def continued(bridge: RunningBridge) -> int:
    """How many requests were answered by the process of their conversation."""
    return bridge.bridge.service.pool_state().totals.sessions.get("continued", 0)


def test_citations_exclude_a_format(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    form: Any = {"format": {"type": "json_schema", "schema": schema}}
    with pytest.raises(anthropic.BadRequestError, match="cannot be combined with citations"):
        client.messages.create(**asked(user({**FOUND, **CITED}), output_config=form))


def test_what_the_api_refuses_of_citations_is_its_own_error(client: anthropic.Anthropic) -> None:
    plain = {name: value for name, value in document(text("b")).items() if name != "citations"}
    with pytest.raises(anthropic.BadRequestError, match="all or none"):
        client.messages.create(**asked(user(document(text("a")), plain)))
