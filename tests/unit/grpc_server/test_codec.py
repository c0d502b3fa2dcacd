"""Wire messages and the neutral model, field by field."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from bridge.core.contract import events
from bridge.core.contract import request as model
from bridge.core.contract.errors import InvalidRequestError
from bridge.core.contract.events import FinishReason
from bridge.core.contract.service import Model
from bridge.core.contract.usage import Usage
from bridge.core.engine.planning.planner import tools_of
from bridge.core.validation import validate
from bridge.grpc_server.wire.decode import decode_request
from bridge.grpc_server.wire.encode import ResponseEncoder, encode_event, encode_model
from bridge.v1 import completion_pb2 as pb
from tests.support.grpc.client import question, user

PNG = pb.Part(image=pb.Image(data=pb.Blob(media_type="image/png", content=b"\x89PNG")))
PDF = pb.Part(
    document=pb.Document(data=pb.Blob(media_type="application/pdf", content=b"%PDF"), title="a.pdf")
)
CALL = pb.Part(tool_call=pb.ToolCall(id="c1", name="add", arguments_json='{"a": 1}'))
OTHER_CALL = pb.Part(tool_call=pb.ToolCall(id="c2", name="add", arguments_json="{}"))
ADD = pb.Tool(name="add")
SUB = pb.Tool(name="sub")


def answer(call_id: str) -> pb.Part:
    return pb.Part(tool_result=pb.ToolResult(call_id=call_id, content=[pb.Part(text="2")]))


RESULT = answer("c1")


def says(*parts: pb.Part) -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, parts=parts)


def answers(*parts: pb.Part) -> pb.Message:
    return pb.Message(role=pb.ROLE_ASSISTANT, parts=parts)


def test_a_bare_request_leaves_everything_to_the_defaults() -> None:
    assert decode_request(question()) == model.CompletionRequest(
        messages=(model.Message(model.Role.USER, (model.TextPart("Hello?"),)),), api="grpc"
    )


def test_every_field_of_a_request() -> None:
    wire = pb.CompleteRequest(
        completion=pb.CompletionSpec(
            model="opus",
            system="Be brief.",
            messages=[
                says(pb.Part(text="Look"), PNG, PDF),
                answers(pb.Part(text="Well"), CALL),
                says(RESULT, pb.Part(text="So?")),
            ],
            tools=[
                pb.Tool(name="add", description="Adds", parameters_json='{"type": "object"}'),
                SUB,
            ],
            tool_choice=pb.ToolChoice(
                mode=pb.ToolChoice.MODE_NAMED, name="add", disable_parallel=True
            ),
            sampling=pb.Sampling(temperature=0.5, top_p=0, stop=["END"], top_k=5),
            max_output_tokens=100,
            output_format=pb.OutputFormat(
                kind=pb.OutputFormat.KIND_JSON_SCHEMA, name="sum", schema_json='{"type": "object"}'
            ),
            effort=pb.EFFORT_HIGH,
            include_thinking=True,
            strict=True,
            include_cost=True,
        ),
        request_id="order-1",
        labels={"team": "search"},
    )
    decoded = decode_request(wire, request_id="req_1", caller="me", timeout=5.0)
    data = model.InlineData("image/png", b64encode(b"\x89PNG").decode())
    assert decoded == model.CompletionRequest(
        messages=(
            model.Message(
                model.Role.USER,
                (
                    model.TextPart("Look"),
                    model.ImagePart(data),
                    model.DocumentPart(
                        model.InlineData("application/pdf", b64encode(b"%PDF").decode()), "a.pdf"
                    ),
                ),
            ),
            model.Message(
                model.Role.ASSISTANT,
                (model.TextPart("Well"), model.ToolCallPart("c1", "add", '{"a": 1}')),
            ),
            model.Message(
                model.Role.USER,
                (model.ToolResultPart("c1", (model.TextPart("2"),)), model.TextPart("So?")),
            ),
        ),
        model="opus",
        system="Be brief.",
        tools=(model.Tool("add", "Adds", {"type": "object"}), model.Tool("sub")),
        tool_choice=model.ToolChoice(model.ToolMode.NAMED, "add", parallel=False),
        sampling=model.Sampling(0.5, 0.0, ("END",), 5),
        max_output_tokens=100,
        output_format=model.OutputFormat(model.OutputKind.JSON_SCHEMA, "sum", {"type": "object"}),
        effort=model.Effort.HIGH,
        include_thinking=True,
        timeout=5.0,
        strict=True,
        include_cost=True,
        request_id="req_1",
        client_request_id="order-1",
        labels={"team": "search"},
        caller="me",
        api="grpc",
    )
    assert [message.origin for message in decoded.messages] == [
        "completion.messages[0]",
        "completion.messages[1]",
        "completion.messages[2]",
    ]


def test_a_request_with_every_field_set_leaves_none_of_the_proto_untested() -> None:
    assert {field.name for field in pb.CompletionSpec.DESCRIPTOR.fields} == {
        "model",
        "system",
        "messages",
        "tools",
        "tool_choice",
        "sampling",
        "max_output_tokens",
        "output_format",
        "effort",
        "include_thinking",
        "strict",
        "include_cost",
    }
    assert {field.name for field in pb.CompleteRequest.DESCRIPTOR.fields} == {
        "completion",
        "request_id",
        "labels",
        "detached",
    }


def system(*parts: pb.Part | str) -> pb.Message:
    texts = [pb.Part(text=part) if isinstance(part, str) else part for part in parts]
    return pb.Message(role=pb.ROLE_SYSTEM, parts=texts)


def test_the_system_messages_before_all_others_are_joined_to_the_system_prompt() -> None:
    decoded = decode_request(
        question(system="Be kind.", messages=[system("Be", "brief."), system("Now."), user()])
    )
    assert decoded.system == "Be kind.\nBe\nbrief.\nNow."
    assert decoded == decode_request(question(system="Be kind.\nBe\nbrief.\nNow."))
    alone = decode_request(question(messages=[system("Be brief."), user()]))
    assert alone.system == "Be brief."
    assert decode_request(question(system=" \n", messages=[system(""), user()])).system is None


def test_system_messages_alone_are_no_conversation() -> None:
    with pytest.raises(InvalidRequestError, match="no user message") as caught:
        decode_request(question(messages=[system("Be brief.")]))
    assert caught.value.field == "completion.messages"


def test_a_later_system_message_keeps_its_place() -> None:
    decoded = decode_request(
        question(
            messages=[
                user(),
                system("a", "b"),
                answers(CALL),
                system("c"),
                says(RESULT),
                system(" "),
                answers(pb.Part(text="Well")),
                system("d"),
            ]
        )
    )
    assert decoded.system is None
    (first, _, second, _, last) = decoded.messages
    assert first.parts[1:] == (model.TextPart("a\nb", system=True),)
    assert second.parts == (
        model.TextPart("c", system=True),
        model.ToolResultPart("c1", (model.TextPart("2"),)),
    )
    assert last == model.Message(model.Role.USER, (model.TextPart("d", system=True),))
    assert [message.origin for message in decoded.messages] == [
        f"completion.messages[{index}]" for index in (0, 2, 4, 6, 7)
    ]
    assert validate(decoded).messages == decoded.messages


def test_addresses_are_passed_on() -> None:
    decoded = decode_request(
        question(
            messages=[
                says(
                    pb.Part(image=pb.Image(url="https://example.org/a.png")),
                    pb.Part(document=pb.Document(url="https://example.org/a.pdf")),
                )
            ]
        )
    )
    assert decoded.messages[0].parts == (
        model.ImagePart(model.UrlSource("https://example.org/a.png")),
        model.DocumentPart(model.UrlSource("https://example.org/a.pdf")),
    )


def test_a_failed_result_with_an_image() -> None:
    result = pb.Part(tool_result=pb.ToolResult(call_id="c1", content=[PNG], is_error=True))
    decoded = decode_request(question(messages=[user(), answers(CALL), says(result)]))
    (part,) = decoded.messages[2].parts
    assert part == model.ToolResultPart(
        "c1", (model.ImagePart(model.InlineData("image/png", "iVBORw==")),), is_error=True
    )


def test_allowed_tools_hold_back_the_others() -> None:
    decoded = decode_request(question(tools=[ADD, SUB], tool_choice=pb.ToolChoice(allowed=["sub"])))
    assert decoded.tool_choice.allowed == ("sub",)
    assert [tool.name for tool in tools_of(decoded)[0]] == ["sub"]


@pytest.mark.parametrize("effort", pb.Effort.items())
def test_efforts(effort: tuple[str, pb.Effort.ValueType]) -> None:
    name, number = effort
    expected = None if number == 0 else model.Effort(name.removeprefix("EFFORT_").lower())
    assert decode_request(question(effort=number)).effort is expected


@pytest.mark.parametrize("mode", pb.ToolChoice.Mode.items())
def test_tool_modes(mode: tuple[str, pb.ToolChoice.Mode.ValueType]) -> None:
    name, number = mode
    choice = pb.ToolChoice(mode=number, name="add" if name == "MODE_NAMED" else "")
    expected = model.ToolMode(name.removeprefix("MODE_").lower()) if number else model.ToolMode.AUTO
    assert decode_request(question(tools=[ADD], tool_choice=choice)).tool_choice.mode is expected


@pytest.mark.parametrize("kind", pb.OutputFormat.Kind.items())
def test_output_kinds(kind: tuple[str, pb.OutputFormat.Kind.ValueType]) -> None:
    name, number = kind
    output = pb.OutputFormat(kind=number, schema_json="{}" if name == "KIND_JSON_SCHEMA" else "")
    expected = (
        model.OutputKind(name.removeprefix("KIND_").lower()) if number else model.OutputKind.TEXT
    )
    assert decode_request(question(output_format=output)).output_format.kind is expected


def called(arguments: str = "{}", call_id: str = "c1", name: str = "add") -> pb.Message:
    call = pb.ToolCall(id=call_id, name=name, arguments_json=arguments)
    return answers(pb.Part(tool_call=call))


def sampling(**fields: object) -> pb.CompleteRequest:
    return question(sampling=pb.Sampling(**fields))  # type: ignore[arg-type]


def choosing(*tools: pb.Tool, **fields: object) -> pb.CompleteRequest:
    choice = pb.ToolChoice(**fields)  # type: ignore[arg-type]
    return question(tools=tools, tool_choice=choice)


def format_of(kind: pb.OutputFormat.Kind.ValueType, schema: str = "") -> pb.CompleteRequest:
    return question(output_format=pb.OutputFormat(kind=kind, schema_json=schema))


def image(media_type: str = "image/png", content: bytes = b"x") -> pb.CompleteRequest:
    blob = pb.Blob(media_type=media_type, content=content)
    return question(messages=[says(pb.Part(image=pb.Image(data=blob)))])


REFUSED: list[tuple[str, pb.CompleteRequest, str]] = [
    ("no message", pb.CompleteRequest(), "messages"),
    ("no role", question(messages=[pb.Message(parts=[pb.Part(text="x")])]), "messages[0].role"),
    (
        "unknown role",
        question(messages=[pb.Message(role=9, parts=[pb.Part(text="x")])]),  # type: ignore[arg-type]
        "messages[0].role",
    ),
    ("no part", question(messages=[says()]), "messages[0]"),
    ("no part of the system", question(messages=[system(), user()]), "messages[0]"),
    ("system messages alone", question(messages=[system("a")]), "messages"),
    (
        "image by the system",
        question(messages=[user(), system("a", PNG)]),
        "messages[1].parts[1].image",
    ),
    (
        "document by the system",
        question(messages=[system(PDF), user()]),
        "messages[0].parts[0].document",
    ),
    (
        "call by the system",
        question(messages=[system(CALL), user()]),
        "messages[0].parts[0].tool_call",
    ),
    (
        "result by the system",
        question(messages=[called(), system("a", RESULT)]),
        "messages[1].parts[1].tool_result",
    ),
    ("empty part", question(messages=[says(pb.Part())]), "messages[0].parts[0]"),
    (
        "image without source",
        question(messages=[says(pb.Part(image=pb.Image()))]),
        "messages[0].parts[0].image",
    ),
    ("image type", image(media_type="image/tiff"), "messages[0].parts[0].image"),
    ("no bytes", image(content=b""), "messages[0].parts[0].image"),
    (
        "http address",
        question(messages=[says(pb.Part(image=pb.Image(url="http://a/b")))]),
        "messages[0].parts[0].image",
    ),
    ("image by the model", question(messages=[answers(PNG), user()]), "messages[0].parts[0].image"),
    (
        "document by the model",
        question(messages=[answers(PDF), user()]),
        "messages[0].parts[0].document",
    ),
    (
        "document type",
        question(
            messages=[
                says(
                    pb.Part(
                        document=pb.Document(data=pb.Blob(media_type="text/html", content=b"x"))
                    )
                )
            ]
        ),
        "messages[0].parts[0].document",
    ),
    ("call by the user", question(messages=[says(CALL)]), "messages[0].parts[0].tool_call"),
    (
        "result by the model",
        question(messages=[answers(RESULT), user()]),
        "messages[0].parts[0].tool_result",
    ),
    (
        "call not answered",
        question(messages=[answers(CALL, OTHER_CALL), says(RESULT)]),
        "messages[0].parts[1].tool_call",
    ),
    (
        "answered too late",
        question(messages=[called(), user(), says(RESULT)]),
        "messages[2].parts[0].tool_result",
    ),
    ("orphan", question(messages=[says(RESULT)]), "messages[0].parts[0].tool_result"),
    (
        "answered twice",
        question(messages=[called(), says(RESULT, RESULT)]),
        "messages[1].parts[1].tool_result",
    ),
    (
        "call without id",
        question(messages=[called(call_id=" "), says(answer(" "))]),
        "messages[0].parts[0].tool_call.id",
    ),
    (
        "call of no tool",
        question(messages=[called(name=""), says(RESULT)]),
        "messages[0].parts[0].tool_call.name",
    ),
    (
        "call in a result",
        question(
            messages=[
                called(),
                says(pb.Part(tool_result=pb.ToolResult(call_id="c1", content=[CALL]))),
            ]
        ),
        "messages[1].parts[0].tool_result.content[0]",
    ),
    ("tool without name", question(tools=[pb.Tool()]), "tools[0].name"),
    ("tool name", question(tools=[ADD, pb.Tool(name="a b")]), "tools[1].name"),
    ("tool name with a line end", question(tools=[pb.Tool(name="a\n")]), "tools[0].name"),
    ("long tool name", question(tools=[pb.Tool(name="a" * 65)]), "tools[0].name"),
    ("one tool twice", question(tools=[ADD, ADD]), "tools[1].name"),
    (
        "parameters",
        question(tools=[pb.Tool(name="a", parameters_json="[]")]),
        "tools[0].parameters_json",
    ),
    ("unknown mode", choosing(ADD, mode=9), "tool_choice.mode"),
    ("required without tools", choosing(mode=pb.ToolChoice.MODE_REQUIRED), "tool_choice.mode"),
    ("named without name", choosing(ADD, mode=pb.ToolChoice.MODE_NAMED), "tool_choice.name"),
    ("named unknown", choosing(ADD, mode=pb.ToolChoice.MODE_NAMED, name="x"), "tool_choice.name"),
    ("name without named", choosing(ADD, name="add"), "tool_choice.name"),
    ("allowed unknown", choosing(ADD, allowed=["add", "x"]), "tool_choice.allowed[1]"),
    (
        "named not allowed",
        choosing(ADD, SUB, mode=pb.ToolChoice.MODE_NAMED, name="add", allowed=["sub"]),
        "tool_choice.name",
    ),
    ("hot", sampling(temperature=1.01), "sampling.temperature"),
    ("cold", sampling(temperature=-0.01), "sampling.temperature"),
    ("no number", sampling(temperature=float("nan")), "sampling.temperature"),
    ("top_p", sampling(top_p=2), "sampling.top_p"),
    ("five stops", sampling(stop=["a", "b", "c", "d", "e"]), "sampling.stop"),
    ("empty stop", sampling(stop=["a", ""]), "sampling.stop[1]"),
    ("no tokens", question(max_output_tokens=0), "max_output_tokens"),
    ("unknown format", format_of(9), "output_format.kind"),  # type: ignore[arg-type]
    ("no schema", format_of(pb.OutputFormat.KIND_JSON_SCHEMA), "output_format.schema_json"),
    ("schema for text", format_of(pb.OutputFormat.KIND_TEXT, "{}"), "output_format.schema_json"),
    ("bad schema", format_of(pb.OutputFormat.KIND_JSON_SCHEMA, "x"), "output_format.schema_json"),
    ("unknown effort", question(effort=99), "effort"),
]


@pytest.mark.parametrize(
    ("request_", "field"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_refused_is_named(request_: pb.CompleteRequest, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate(decode_request(request_))
    assert caught.value.field == f"completion.{field}"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            pb.Part(),
            "parts[0]' must have exactly one of the fields "
            "text, image, document, tool_call and tool_result.",
        ),
        (
            pb.Part(image=pb.Image()),
            "parts[0].image' must have exactly one of the fields data and url.",
        ),
    ],
    ids=["part", "source"],
)
def test_the_error_about_an_empty_oneof_lists_its_fields(part: pb.Part, said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_request(question(messages=[says(part)]))
    assert str(caught.value) == f"'completion.messages[0].{said}"


def test_errors_about_a_message_without_content_name_it() -> None:
    for parts in ([], [pb.Part(text="")]):
        with pytest.raises(InvalidRequestError, match=r"'completion\.messages\[0\]'"):
            validate(decode_request(question(messages=[says(*parts)])))


@pytest.mark.parametrize(
    "request_",
    [
        question(messages=[called(), says(RESULT), called(), says(RESULT)]),
        question(messages=[called(name="made.elsewhere"), says(RESULT)]),
        sampling(stop=["\n "]),
    ],
    ids=["an id in two turns", "a name made elsewhere", "a blank stop text"],
)
def test_what_the_http_api_takes_is_taken(request_: pb.CompleteRequest) -> None:
    validate(decode_request(request_))


USAGE = pb.Usage(
    input_tokens=1,
    cache_read_tokens=2,
    cache_write_tokens=3,
    output_tokens=4,
    thinking_tokens=5,
)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            events.Started("claude-x", ("seed",)),
            [
                (
                    pb.CompletionEvent(
                        started=pb.Started(
                            request_id="req_1", model="claude-x", ignored_params=["seed"]
                        )
                    ),
                    7,
                )
            ],
        ),
        (events.TextDelta("a"), [(pb.CompletionEvent(text_delta=pb.TextDelta(text="a")), 7)]),
        (
            events.ThinkingDelta("a"),
            [(pb.CompletionEvent(thinking_delta=pb.ThinkingDelta(text="a")), 7)],
        ),
        (
            events.ToolCallStart(1, "c1", "add"),
            [
                (
                    pb.CompletionEvent(
                        tool_call_start=pb.ToolCallStart(index=1, id="c1", name="add")
                    ),
                    7,
                )
            ],
        ),
        (
            events.ToolCallDelta(1, '{"a'),
            [
                (
                    pb.CompletionEvent(
                        tool_call_delta=pb.ToolCallDelta(index=1, arguments_json='{"a')
                    ),
                    7,
                )
            ],
        ),
        (
            events.Finished(FinishReason.LENGTH, Usage(1, 2, 3, 4, 5), "END"),
            [
                (pb.CompletionEvent(usage=USAGE), 0),
                (
                    pb.CompletionEvent(
                        finished=pb.Finished(
                            reason=pb.FINISH_REASON_LENGTH, usage=USAGE, stop_sequence="END"
                        )
                    ),
                    7,
                ),
            ],
        ),
    ],
)
def test_events(event: events.Event, expected: list[tuple[pb.CompletionEvent, int]]) -> None:
    assert list(encode_event(event, 7, "req_1")) == expected


@pytest.mark.parametrize("reason", FinishReason)
def test_finish_reasons(reason: FinishReason) -> None:
    event, _ = encode_event(events.Finished(reason, Usage()), 7, "req_1")[-1]
    assert pb.FinishReason.Name(event.finished.reason) == f"FINISH_REASON_{reason.name}"


@pytest.mark.parametrize("kind", [pb.CompleteResponse, pb.ConverseResponse])
def test_responses_that_share_a_message_are_those_of_the_events(
    kind: type[pb.CompleteResponse] | type[pb.ConverseResponse],
) -> None:
    encoder: ResponseEncoder[Any] = ResponseEncoder(kind)
    answer: tuple[events.Event, ...] = (
        events.Started("claude-x"),
        events.TextDelta("a"),
        events.TextDelta(""),
        events.TextDelta("b\ud83d"),
        events.ToolCallDelta(0, "{}"),
        events.TextDelta("c"),
        events.Finished(FinishReason.STOP, Usage()),
    )
    for number, event in enumerate(answer, 1):
        # One after the other, as they are sent.
        sent = [response.SerializeToString() for response in encoder.encode(event, number, "r")]
        expected = [
            kind(event=wire, sequence_number=of_wire).SerializeToString()
            for wire, of_wire in encode_event(event, number, "r")
        ]
        assert sent == expected


def test_half_a_surrogate_pair_does_not_break_the_stream() -> None:
    ((broken, _),) = encode_event(events.TextDelta("a\ud83d"), 7, "req_1")
    assert broken.text_delta.text == "a\ufffd"
    ((whole, _),) = encode_event(events.TextDelta("\ud83d\ude00"), 7, "req_1")
    assert whole.text_delta.text == "😀"


def test_models() -> None:
    wire = encode_model(Model("opus", "claude-opus-4", "Opus", "Best", ("low", "new"), True))
    assert (wire.id, wire.resolved_model, wire.display_name) == ("opus", "claude-opus-4", "Opus")
    assert (wire.description, list(wire.efforts), wire.is_default) == (
        "Best",
        [pb.EFFORT_LOW],
        True,
    )


@pytest.mark.parametrize(
    "text", ["[]", "{", "1", '{"a": NaN}', "[" * 100_000, '{"a": ' + "1" * 5000 + "}"]
)
def test_malformed_arguments_are_passed_on_as_text_and_named(text: str) -> None:
    decoded = validate(decode_request(question(messages=[called(text), says(RESULT)])))
    (call,) = decoded.messages[0].parts
    assert isinstance(call, model.ToolCallPart)
    assert json.loads(call.arguments) == {"_malformed_arguments": text}
    assert decoded.repaired == ("completion.messages.parts.tool_call.arguments_json",)


def test_no_arguments_are_an_empty_object() -> None:
    decoded = validate(decode_request(question(messages=[called(""), says(RESULT)])))
    (call,) = decoded.messages[0].parts
    assert isinstance(call, model.ToolCallPart)
    assert (call.arguments, decoded.repaired) == ("{}", ())
