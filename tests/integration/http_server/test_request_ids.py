"""The callers' own request ids and labels, at every HTTP API."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.support.harness import PATIENCE, RunningBridge, sim

APIS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": ""}]},
    "/v1/responses": {"input": ""},
    "/v1/messages": {"messages": [{"role": "user", "content": ""}], "max_tokens": 100},
    "/v1/completions": {"prompt": ""},
}


@pytest.fixture
def marker() -> str:
    """A word that no other request has, and an id."""
    return uuid.uuid4().hex


def ask(bridge: RunningBridge, url: str, text: str, id: str, **parameters: Any) -> httpx.Response:
    body = json.loads(json.dumps(APIS[url]).replace('""', json.dumps(text)))
    return httpx.post(
        f"{bridge.url}{url}",
        json={"model": "opus", **body, **parameters},
        headers={"Idempotency-Key": id},
        timeout=PATIENCE,
        trust_env=False,
    )


def reason_of(reply: httpx.Response) -> tuple[str, str]:
    """The reason of an error, and the field that it names."""
    error = reply.json()["error"]
    if "details" in error:
        return error["details"]["error_code"], error["details"]["field"]
    return error["code"], error["param"]


@pytest.mark.parametrize("url", APIS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_with_an_id_is_answered_once(
    bridge: RunningBridge, marker: str, url: str, stream: bool
) -> None:
    text = f"{marker} {sim(text='Once.')}"
    assert ask(bridge, url, text, marker, stream=stream).status_code == 200
    for again, reason in ((text, "request_id_in_use"), (f"{text}!", "request_id_reused")):
        refused = ask(bridge, url, again, marker, stream=stream)
        assert refused.status_code == 409
        assert reason_of(refused) == (reason, "Idempotency-Key")
        assert refused.headers["x-should-retry"] == "false"
    assert len(bridge.simulator.ledger.exchanges(containing=marker)) == 1


@pytest.mark.parametrize("url", APIS)
def test_an_id_in_another_format_is_refused(bridge: RunningBridge, url: str) -> None:
    refused = ask(bridge, url, "Hello?", "not an id")
    assert refused.status_code == 400
    assert reason_of(refused)[1] == "Idempotency-Key"


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/responses"])
def test_labels_have_limits(bridge: RunningBridge, marker: str, url: str) -> None:
    for labels, field in (
        ({f"n{number}": "" for number in range(17)}, "metadata"),
        ({"n" * 65: ""}, "metadata"),
        ({"n": "v" * 513}, "metadata.n"),
    ):
        refused = ask(bridge, url, "Hello?", marker, metadata=labels)
        assert refused.status_code == 400
        assert reason_of(refused)[1] == field


def test_the_user_of_a_message_is_a_label(bridge: RunningBridge, marker: str) -> None:
    reply = ask(bridge, "/v1/messages", sim(text="Hi."), marker, metadata={"user_id": "u-1"})
    assert reply.status_code == 200
    bridge.bridge.log.flush()
    lines = map(json.loads, bridge.log_path.read_text().splitlines())
    (line,) = (line for line in lines if line["client_request_id"] == marker)
    assert line["labels"] == {"user_id": "u-1"}
    refused = ask(bridge, "/v1/messages", "Hello?", f"{marker}-2", metadata={"user_id": 1})
    assert (refused.status_code, reason_of(refused)[1]) == (400, "metadata.user_id")
