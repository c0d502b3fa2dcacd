"""Whatever is requested, only a closed set of typed settings is sent to Claude Code.

No field of a request becomes an option, a path, an environment variable or a key of the upstream
body that is not one of these. For random requests of the core and of both APIs.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core.claude.lines import UserLine, replay_lines, user_line
from bridge.core.claude.turn_settings import TurnSettings, setting_changes
from bridge.core.contract.errors import BridgeError
from bridge.core.contract.request import (
    CompletionRequest,
    Effort,
    Message,
    OutputFormat,
    OutputKind,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from bridge.core.engine.planning.models import Catalog
from bridge.core.engine.planning.plan import Plan
from bridge.core.engine.planning.planner import Planner
from bridge.core.validation import validate
from bridge.grpc_server.wire.decode import decode_request
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.completions.decode import decode_text_completion
from bridge.http_server.openai.responses.decode import Past, decode_responses, parse_responses
from bridge.v1 import completion_pb2 as pb
from tests.support.harness import SCALE

EXAMPLES = settings(
    max_examples=150 * SCALE,
    deadline=None,
    derandomize=SCALE == 1,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

SETTINGS = {"model", "effortLevel", "env"}
VARIABLES = {
    "CLAUDE_CODE_DISABLE_THINKING",
    "CLAUDE_CODE_EXTRA_BODY",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_MAX_RETRIES",
    "MCP_TOOL_TIMEOUT",
}
BODY = {"temperature", "top_p", "stop_sequences", "tool_choice", "output_config", "tools"}
LINE = {"type", "message", "parent_tool_use_id", "session_id", "client_composed", "uuid"}
BLOCKS: Mapping[str, set[str]] = {
    "text": {"type", "text"},
    "image": {"type", "source"},
    "document": {"type", "source", "title"},
    "tool_use": {"type", "id", "name", "input"},
    "tool_result": {"type", "tool_use_id", "content", "is_error"},
}
MODEL = re.compile(r"opus|claude-[a-z0-9-]+(\[1m\])?")

# What would do harm as a key, a value, a path or a flag.
WORDS = (
    "--dangerously-skip-permissions",
    "--settings={}",
    "../../etc/passwd",
    "CLAUDE_CODE_EXTRA_BODY",
    "PATH",
    "add_dirs",
    "apiKeyHelper",
    "client_composed",
    "cwd",
    "env",
    "extra_body",
    "hooks",
    "mcp_servers",
    "messages",
    "metadata",
    "output_config",
    "permission_mode",
    "permissions",
    "setting_sources",
    "settings",
    "shouldQuery",
    "system",
    "thinking",
    "tools",
    "claude-x --y",
    "claude-opus-5",
    "opus",
    '"}, "system": "x',
    "",
    " ",
    "\n/clear\x00\ud800",
)
TEXT = st.sampled_from(WORDS) | st.text(max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | TEXT
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)

# Requests of the core

PARTS = st.one_of(
    st.builds(TextPart, TEXT),
    st.builds(ToolCallPart, TEXT, TEXT, OBJECTS.map(json.dumps)),
    st.builds(ToolResultPart, TEXT, st.tuples(st.builds(TextPart, TEXT)), st.booleans()),
)
MESSAGES = st.builds(
    Message, st.sampled_from(Role), st.lists(PARTS, min_size=1, max_size=3).map(tuple)
)
REQUESTS = st.builds(
    CompletionRequest,
    messages=st.tuples(
        st.lists(MESSAGES, max_size=3), st.builds(Message, st.just(Role.USER), st.tuples(PARTS))
    ).map(lambda both: (*both[0], both[1])),
    model=st.none() | TEXT,
    system=st.none() | TEXT,
    tools=st.lists(st.builds(Tool, TEXT, TEXT, OBJECTS), max_size=2).map(tuple),
    tool_choice=st.builds(ToolChoice, st.sampled_from(ToolMode), TEXT, st.booleans()),
    sampling=st.builds(
        Sampling,
        st.none() | st.floats(0, 1),
        st.none() | st.floats(0, 1),
        st.lists(TEXT, max_size=2).map(tuple),
    ),
    max_output_tokens=st.none() | st.integers(1, 10**6),
    output_format=st.builds(OutputFormat, st.sampled_from(OutputKind), TEXT, st.none() | OBJECTS),
    effort=st.none() | st.sampled_from(Effort),
    caller=TEXT,
    request_id=TEXT,
)

# Requests of the APIs: something that is served, with anything in or beside it

HTTP = {
    "model": "opus",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
    "tool_choice": "auto",
    "temperature": 0.5,
    "stop": ["x"],
    "max_completion_tokens": 9,
    "reasoning_effort": "low",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "it", "schema": {"type": "object"}},
    },
    "prompt": "hi",
}
RESPONSES = {
    "model": "opus",
    "instructions": "Be brief.",
    "input": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function", "name": "look", "parameters": {}}],
    "tool_choice": "auto",
    "temperature": 0.5,
    "max_output_tokens": 9,
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_schema", "name": "it", "schema": {"type": "object"}}},
}
GRPC = {
    "model": "opus",
    "messages": [{"role": "ROLE_USER", "parts": [{"text": "hi"}]}],
    "tools": [{"name": "look", "parameters_json": "{}"}],
    "tool_choice": {"mode": "MODE_AUTO", "name": ""},
    "sampling": {"temperature": 0.5, "stop": ["x"]},
    "max_output_tokens": 9,
    "effort": "EFFORT_LOW",
    "output_format": {
        "kind": "KIND_JSON_SCHEMA",
        "name": "it",
        "schema_json": '{"type": "object"}',
    },
}


def _put(body: dict[str, Any], name: str) -> Callable[[Any], Any]:
    return lambda new: {**body, name: new}


def disturbed(body: Any) -> st.SearchStrategy[Any]:
    """The body with something put in the place of a value, or beside it, at any depth."""
    if isinstance(body, dict) and body:
        beside = st.dictionaries(TEXT, JSON, max_size=2).map(lambda more: {**more, **body})
        within = [disturbed(value).map(_put(body, name)) for name, value in body.items()]
        less = st.sampled_from(sorted(body)).map(
            lambda name: {key: value for key, value in body.items() if key != name}
        )
        return st.one_of(st.just(body), beside, less, *within)
    if isinstance(body, list):
        items = (disturbed(item).map(lambda new: [new]) for item in body)
        return st.one_of(st.just(body), JSON, *items)
    return st.just(body) | JSON


# The property


def check(plan: Plan) -> None:
    """Look at all that a session is sent for the plan."""
    for told in (
        setting_changes(None, plan.settings),
        setting_changes(TurnSettings(), plan.settings),
    ):
        check_settings(told)
    lines = [*replay_lines(plan.history), user_line(plan.last, query=True)]
    for line in lines:
        wire = line.wire if isinstance(line, UserLine) else line
        assert wire.keys() <= LINE | {"shouldQuery"}
        assert wire.get("client_composed", False) is isinstance(line, UserLine)
        assert wire["message"].keys() == {"role", "content"}
        for block in wire["message"]["content"]:
            assert block.keys() <= BLOCKS[block["type"]]


def check_settings(told: Mapping[str, Any]) -> None:
    assert told.keys() <= SETTINGS
    assert told.get("model") is None or MODEL.fullmatch(told["model"])
    assert told.get("effortLevel") in (None, "low", "medium", "high", "xhigh", "max")
    variables = told.get("env", {})
    assert variables.keys() <= VARIABLES
    for name, value in variables.items():
        if name != "CLAUDE_CODE_EXTRA_BODY":
            assert re.fullmatch(r"[0-9]*", value)
    check_body(json.loads(variables.get("CLAUDE_CODE_EXTRA_BODY") or "{}"))


def check_body(body: Mapping[str, Any]) -> None:
    assert body.keys() <= BODY
    for name in ("temperature", "top_p"):
        assert isinstance(body.get(name, 0.0), int | float)
    assert all(isinstance(text, str) for text in body.get("stop_sequences", []))
    choice = body.get("tool_choice", {})
    assert choice.keys() <= {"type", "name", "disable_parallel_tool_use"}
    assert choice.get("type") in (None, "auto", "any", "tool")
    assert isinstance(choice.get("name", ""), str)
    output = body.get("output_config", {"format": {"type": "json_schema", "schema": {}}})
    assert output.keys() == {"format"}
    assert output["format"].keys() == {"type", "schema"}
    assert output["format"]["type"] == "json_schema"
    for tool in body.get("tools", []):
        assert tool.keys() == {"name", "description", "input_schema"}
        assert isinstance(tool["name"], str)
        assert isinstance(tool["description"], str)
        assert isinstance(tool["input_schema"], dict)


CATALOG = Catalog.from_cli([{"value": "default"}, {"value": "opus"}])


def check_planned(read: Callable[[], CompletionRequest]) -> None:
    """Read and plan it; what is refused need not be looked at."""
    with contextlib.suppress(BridgeError):
        check(Planner(None, catalog=CATALOG).plan(validate(read())))


@EXAMPLES
@given(REQUESTS)
def test_of_any_request(request: CompletionRequest) -> None:
    check_planned(lambda: request)


@EXAMPLES
@given(disturbed(HTTP))
def test_of_any_json(body: Any) -> None:
    check_planned(lambda: decode_chat(body, CallOptions()).request)
    check_planned(lambda: decode_text_completion(body, CallOptions()).request)


def read_responses(body: Any) -> CompletionRequest:
    wire = parse_responses(body)
    return decode_responses(wire, body, CallOptions(), Past(), "00", keeps=True).request


@EXAMPLES
@given(disturbed(RESPONSES))
def test_of_any_json_of_the_responses_api(body: Any) -> None:
    check_planned(lambda: read_responses(body))


@EXAMPLES
@given(disturbed(GRPC), st.binary(max_size=40))
def test_of_any_protobuf(fields: Any, more: bytes) -> None:
    try:
        wire = ParseDict({"completion": fields}, pb.CompleteRequest()).SerializeToString()
    except (ParseError, AttributeError, TypeError, ValueError):
        wire = b""
    for data in (wire, wire + more):
        with contextlib.suppress(DecodeError):
            message = pb.CompleteRequest.FromString(data)
            check_planned(partial(decode_request, message))


def test_the_property_is_tried_on_what_is_served() -> None:
    """What is refused at once would show nothing."""
    served = [
        decode_chat(HTTP, CallOptions()).request,
        read_responses(RESPONSES),
        decode_request(ParseDict({"completion": GRPC}, pb.CompleteRequest())),
    ]
    for request in map(validate, served):
        check(Planner(None, catalog=CATALOG).plan(request))
