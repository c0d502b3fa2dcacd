"""Requests of every kind that the server's own description allows, and of those it does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, CheckContext, CheckFunction, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import positive_data_acceptance

from bridge.core.ledger import Ledger
from bridge.http_server.app import create_app
from bridge.http_server.dialects import all_dialects
from tests.support.fakes import FakeService
from tests.support.harness import PATIENCE, SCALE, RunningBridge
from tests.support.http.serving import serving

# That each tool result answers a call, and more of this kind, no schema can say.
MORE_THAN_A_SCHEMA: list[CheckFunction] = [positive_data_acceptance]

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
    ],
    [{"role": "assistant", "content": "Yes?"}, {"role": "user", "content": ""}],
]
INPUTS: list[Any] = [
    "Hello",
    [{"role": "user", "content": "Hello"}],
    [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look."}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
    ],
]
TOOLS: list[Any] = [
    [{"type": "function", "function": {"name": "look"}}],
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
            },
        }
        for name in ("look", "listen")
    ],
    None,
]
# For json_object too the simulated model must be told what to say: the API has no such format.
FORMATS: list[Any] = [
    {"type": "text"},
    {
        "type": "json_schema",
        "json_schema": {
            "name": "place",
            "schema": {
                "type": "object",
                "properties": {"at": {"type": "string"}, "seen": {"type": ["integer", "null"]}},
                "required": ["at", "seen"],
                "additionalProperties": False,
            },
        },
    },
    None,
]
REFUSED = (
    *("audio", "best_of", "echo", "function_call", "functions", "logprobs", "modalities"),
    *("moderation", "n", "suffix", "top_logprobs", "web_search_options"),
    *("background", "conversation", "prompt", "include", "previous_response_id"),
)


def description() -> dict[str, Any]:
    """The server's own description."""
    # Not opened: a file is, with the first question.
    ledger = Ledger(Path("nowhere.sqlite3"))
    return create_app(FakeService(), all_dialects(), version="0", ledger=ledger).openapi()


def narrowed() -> dict[str, Any]:
    """The same for requests that get past the API: all of them about something sensible."""
    narrow = copy.deepcopy(description())
    schemas = narrow["components"]["schemas"]
    chat = schemas["ChatCompletionRequest"]["properties"]
    chat["messages"] = {"enum": CONVERSATIONS}
    chat["tools"] = {"enum": TOOLS}
    # A call that must be made is one that the simulated model must be told of.
    chat["tool_choice"] = {"enum": ["auto", "none", None]}
    chat["response_format"] = {"enum": FORMATS}
    # What ends an answer early leaves no JSON and no call.
    chat["stop"] = {"enum": ["\n\n", ["nowhere"], None]}
    responses = schemas["ResponsesRequest"]
    responses["required"] = ["input"]
    responses["properties"]["input"] = {"enum": INPUTS}
    responses["properties"]["tools"] = {
        "enum": [tools and [flat(t) for t in tools] for tools in TOOLS]
    }
    responses["properties"]["tool_choice"] = chat["tool_choice"]
    responses["properties"]["text"] = {"enum": [{"format": flat(f)} for f in FORMATS if f]}
    schemas["TextCompletionRequest"]["properties"]["prompt"] = {"type": "string"}
    for name in ("ChatCompletionRequest", "ResponsesRequest", "TextCompletionRequest"):
        schemas[name]["additionalProperties"] = False
        for parameter in REFUSED:
            schemas[name]["properties"].pop(parameter, None)
    return narrow


def flat(nested: dict[str, Any]) -> dict[str, Any]:
    """A tool or a format as the Responses API has it: without the object inside."""
    inner = nested.get("function") or nested.get("json_schema") or {}
    return {"type": nested["type"], **inner}


def configured(**options: Any) -> SchemathesisConfig:
    """The defaults with these changes, whatever the folder it runs in holds; whole streams."""
    return SchemathesisConfig.from_dict({"max-stream-events": 100_000, **options})


# 12,000 cases that are made before the first test: half a minute of each worker.
PHASES = {"coverage": {"enabled": SCALE >= 10}}
ANYTHING = from_dict(description(), config=configured(phases=PHASES))
SENSIBLE = from_dict(narrowed(), config=configured(generation={"mode": "positive"}, phases=PHASES))
SENSIBLE_ONLY = from_dict(
    narrowed(),
    config=configured(
        generation={"mode": "positive"}, phases={"enabled": False, "fuzzing": {"enabled": True}}
    ),
)


def bounded(few: int, many: int) -> settings:
    """So many examples for each operation; the same ones in each ordinary run."""
    return settings(
        max_examples=few if SCALE == 1 else many,
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


OPENAIS: tuple[set[str], set[str], str] = (
    set(),
    {"message", "type", "param", "code"},
    "data: [DONE]",
)
ANTHROPICS = (
    {"type", "request_id"},
    {"message", "type", "details"},
    'event: message_stop\ndata: {"type":"message_stop"}',
)
"""What an error has beside `error`, what that has, and the end of a stream."""


@schemathesis.check
def ends_as_its_dialect_does(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """An error is the dialect's object with exactly its keys; a stream has an end."""
    anthropics = case.path.startswith(("/v1/messages", "/api/"))
    beside, within, end = ANTHROPICS if anthropics else OPENAIS
    assert ("x-bridge-error" in response.headers) is (response.status_code >= 400)
    if response.status_code >= 400:
        body = json.loads(response.content)
        assert set(body) == {"error"} | beside, body
        assert set(body["error"]) == within, body
        assert body["error"]["message"], body
    elif response.headers["content-type"][0].startswith("text/event-stream"):
        *_, last, nothing = response.content.decode().split("\n\n")
        assert (last, nothing) == (end, ""), last


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ledger = Ledger(tmp_path_factory.mktemp("fake") / "ledger.sqlite3")
    with serving(FakeService(), ledger=ledger) as url:
        yield url.removesuffix("/v1")


def check(case: Case[Any], base_url: str) -> None:
    case.call_and_validate(base_url=base_url, timeout=PATIENCE, excluded_checks=MORE_THAN_A_SCHEMA)


@ANYTHING.parametrize()
@bounded(20, 500)
def test_anything_on_a_fake(case: Case[Any], fake: str) -> None:
    check(case, fake)


@SENSIBLE.parametrize()
@bounded(20, 500)
def test_what_is_sensible_on_a_fake(case: Case[Any], fake: str) -> None:
    check(case, fake)


@SENSIBLE_ONLY.parametrize()
@bounded(10, 100)
def test_what_is_sensible_on_the_simulator(case: Case[Any], bridge: RunningBridge) -> None:
    check(case, bridge.url)
