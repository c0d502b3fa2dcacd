"""Large requests are read off the event loop, where everybody else's answers are."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest

from bridge.core.engine.planning import plan as plan_module
from bridge.core.intake import requests as intake_module
from bridge.grpc_server import completion as grpc_module
from bridge.http_server.body import reading
from bridge.http_server.openai.chat import routes as chat
from bridge.http_server.openai.completions import routes as completions
from bridge.http_server.openai.responses import reading as responses
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.grpc.client import question
from tests.support.harness import PATIENCE, RunningBridge, sim

MANY = 600
HISTORY = [
    {"role": role, "content": "x" * 300} for _ in range(MANY // 2) for role in ("user", "assistant")
]
ANSWERED = [*HISTORY, {"role": "user", "content": sim(text="Read.")}]
HTTP: dict[str, tuple[dict[str, Any], tuple[Any, str]]] = {
    "/v1/chat/completions": ({"messages": ANSWERED}, (chat, "decode_chat")),
    "/v1/responses": ({"input": ANSWERED}, (responses, "decode_responses")),
    "/v1/completions": (
        {"prompt": sim(text="Read.") + " word" * 40_000},
        (completions, "decode_text_completion"),
    ),
}
SMALL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "/v1/responses": {"input": "Hello"},
    "/v1/completions": {"prompt": "Hello"},
}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[str]]:
    """Note on which threads a function is run."""

    def watch(module: Any, name: str) -> list[str]:
        threads: list[str] = []
        work = getattr(module, name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            threads.append(threading.current_thread().name)
            return work(*args, **kwargs)

        monkeypatch.setattr(module, name, noting)
        return threads

    return watch


def apart(threads: list[str]) -> bool:
    return bool(threads) and all(name.startswith("asyncio_") for name in threads)


@pytest.mark.parametrize("path", HTTP)
def test_over_http(
    path: str, bridge: RunningBridge, watched: Callable[[Any, str], list[str]]
) -> None:
    body, decoding = HTTP[path]
    parsed, decoded = watched(reading, "parse_json"), watched(*decoding)
    validated = watched(intake_module, "validate")
    compared = watched(plan_module, "fingerprint")
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        reply = client.post(f"{bridge.url}{path}", content=json.dumps(body))
        assert reply.status_code == 200, reply.text
        assert "Read." in reply.text
        assert apart(parsed)
        assert apart(decoded)
        assert apart(validated)
        assert apart(compared)
        # A small one is read where it comes in: a thread would only cost time.
        assert client.post(f"{bridge.url}{path}", json=SMALL[path]).status_code == 200
        assert not apart(parsed)
        assert not apart(decoded)
        assert not apart(compared)


def test_over_grpc(bridge: RunningBridge, watched: Callable[[Any, str], list[str]]) -> None:
    decoded = watched(grpc_module, "decode_request")
    validated = watched(intake_module, "validate")
    compared = watched(plan_module, "fingerprint")
    request = question(system="x" * 200_000)
    for _ in range(MANY):
        request.completion.messages.add().CopyFrom(request.completion.messages[0])
    with grpc.insecure_channel(bridge.target) as channel:
        stub = CompletionServiceStub(channel)
        assert list(stub.Complete(request, timeout=PATIENCE))
        assert apart(decoded)
        assert apart(validated)
        assert apart(compared)
        assert list(stub.Complete(question(), timeout=PATIENCE))
        assert not apart(decoded)


def test_small_pieces_in_great_number(
    bridge: RunningBridge, watched: Callable[[Any, str], list[str]]
) -> None:
    """Each takes longer to read than many bytes."""
    over_http, over_grpc = watched(chat, "decode_chat"), watched(grpc_module, "decode_request")
    parts = [{"type": "text", "text": "a"}] * 2_000
    body = {"messages": [{"role": "user", "content": parts}]}
    reply = httpx.post(f"{bridge.url}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert reply.status_code == 200, reply.text
    assert apart(over_http)
    request = question()
    for _ in range(4_000):
        request.completion.messages[0].parts.add(text="a")
    with grpc.insecure_channel(bridge.target) as channel:
        assert list(CompletionServiceStub(channel).Complete(request, timeout=PATIENCE))
    assert apart(over_grpc)
