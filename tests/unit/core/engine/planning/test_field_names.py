"""Errors name fields as the caller's API does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from bridge.core.claude.failures.kinds import CONTEXT_TOO_LONG
from bridge.core.contract import CompletionRequest, InvalidRequestError, ModelNotFoundError
from bridge.core.engine.planning.field_names import errors_named_for
from bridge.core.engine.planning.models import Catalog
from bridge.core.engine.planning.planner import Planner
from bridge.core.engine.schema_checker import SchemaChecker
from bridge.core.validation import validate
from bridge.grpc_server.wire.decode import decode_conversation, decode_request
from bridge.http_server.context import CallOptions, ReasoningDisplay
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.completions.decode import decode_text_completion
from bridge.http_server.openai.responses.decode import Past, decode_responses, parse_responses
from bridge.v1 import completion_pb2 as pb

BY_DEFAULT: Final = CallOptions(reasoning=ReasoningDisplay.CHAT_DEFAULT)
HEADER: Final = CallOptions(reasoning=ReasoningDisplay.ASKED)
DANGLING: Final = {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}
DANGLING_JSON: Final = '{"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}'


def chat(options: CallOptions = CallOptions(), **body: Any) -> CompletionRequest:  # noqa: B008 - frozen
    return decode_chat({"messages": [{"role": "user", "content": "hi"}], **body}, options).request


def responses(options: CallOptions = CallOptions(), **more: Any) -> CompletionRequest:  # noqa: B008 - frozen
    body = {"input": "hi", **more}
    wire = parse_responses(body)
    return decode_responses(wire, body, options, Past(), "1", keeps=True).request


def text(**body: Any) -> CompletionRequest:
    return decode_text_completion({"prompt": "hi", **body}, CallOptions()).request


MESSAGES: Final = [pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="hi")])]


def complete(**fields: Any) -> CompletionRequest:
    return decode_request(
        pb.CompleteRequest(completion=pb.CompletionSpec(messages=MESSAGES, **fields))
    )


def converse(**fields: Any) -> CompletionRequest:
    settings = pb.OpenConversation(completion=pb.CompletionSpec(**fields))
    return decode_conversation(pb.ConverseRequest(open=settings))


def in_turn(**fields: Any) -> CompletionRequest:
    """A turn of a conversation: its settings and its messages."""
    return replace(converse(**fields), messages=complete().messages)


COOL: Final[dict[str, Any]] = {"temperature": 0.5}
GRPC_COOL: Final = {"sampling": pb.Sampling(temperature=0.5)}


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (chat(**COOL), ()),
        (chat(**COOL, reasoning_effort="high"), ("reasoning_effort",)),
        (chat(**COOL, reasoning_effort="max"), ("reasoning_effort",)),
        (chat(**COOL, reasoning_effort="none"), ()),
        (chat(**COOL, include_reasoning=True), ("include_reasoning",)),
        (chat(BY_DEFAULT, **COOL), ()),
        (chat(HEADER, **COOL), ("x-bridge-include-reasoning",)),
        (responses(**COOL), ()),
        (responses(**COOL, reasoning={"effort": "high"}), ("reasoning.effort",)),
        (responses(**COOL, reasoning={"summary": "auto"}), ("reasoning.summary",)),
        (
            responses(**COOL, reasoning={"generate_summary": "auto"}),
            ("reasoning.generate_summary",),
        ),
        (responses(HEADER, **COOL), ("x-bridge-include-reasoning",)),
        (text(**COOL), ()),
        (complete(**GRPC_COOL), ()),
        (complete(**GRPC_COOL, effort=pb.EFFORT_HIGH), ("completion.effort",)),
        (complete(**GRPC_COOL, include_thinking=True), ("completion.include_thinking",)),
        (in_turn(**GRPC_COOL, effort=pb.EFFORT_HIGH), ("open.completion.effort",)),
        (complete(model="gpt-4o"), ("completion.model",)),
        (in_turn(model="gpt-4o"), ("open.completion.model",)),
    ],
)
def test_what_is_ignored_is_a_field_that_was_sent(
    request_: CompletionRequest, names: tuple[str, ...]
) -> None:
    assert Planner(None).plan(request_).ignored == names


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (chat(max_tokens=10**12), "max_tokens"),
        (chat(max_completion_tokens=10**12), "max_completion_tokens"),
        (responses(max_output_tokens=10**12), "max_output_tokens"),
        (text(max_tokens=10**12), "max_tokens"),
    ],
)
def test_a_limit_that_is_too_high_is_blamed_by_its_name(
    request_: CompletionRequest, name: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate(request_)
    assert caught.value.field == name


FUNCTION: Final = {"name": "look", "parameters": DANGLING}
PROTO_FORMAT: Final = pb.OutputFormat(
    kind=pb.OutputFormat.KIND_JSON_SCHEMA, schema_json=DANGLING_JSON
)
PROTO_TOOL: Final = pb.Tool(name="look", parameters_json=DANGLING_JSON)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (chat(tools=[{"function": FUNCTION}]), "tools"),
        (chat(functions=[FUNCTION]), "functions"),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"schema": DANGLING}}),
            "response_format",
        ),
        (responses(tools=[FUNCTION]), "tools"),
        (
            responses(text={"format": {"type": "json_schema", "name": "n", "schema": DANGLING}}),
            "text.format",
        ),
        (complete(tools=[PROTO_TOOL]), "completion.tools"),
        (complete(output_format=PROTO_FORMAT), "completion.output_format"),
        (in_turn(tools=[PROTO_TOOL]), "open.completion.tools"),
        (in_turn(output_format=PROTO_FORMAT), "open.completion.output_format"),
    ],
)
async def test_the_fault_of_a_schema_is_blamed_by_its_name(
    request_: CompletionRequest, name: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await SchemaChecker().admit(request_)
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (chat(), "messages"),
        (responses(), "input"),
        (text(), "prompt"),
        (complete(), "completion.messages"),
        (in_turn(), "open.completion.messages"),
    ],
)
def test_a_refusal_of_the_api_is_blamed_by_its_name(request_: CompletionRequest, name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught, errors_named_for(request_):
        raise CONTEXT_TOO_LONG.as_error()
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("request_", "name"),
    [(chat(model="nothing"), "model"), (in_turn(model="nothing"), "open.completion.model")],
)
def test_a_model_that_is_not_there_is_blamed_by_its_name(
    request_: CompletionRequest, name: str
) -> None:
    planner = Planner(None, catalog=Catalog(refuse_unknown=True))
    with pytest.raises(ModelNotFoundError) as caught:
        planner.plan(request_)
    assert caught.value.field == name
