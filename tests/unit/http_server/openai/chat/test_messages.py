"""Messages: what is placed, merged, dropped and refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bridge.core.contract.errors import InvalidRequestError, UnsupportedError
from bridge.core.contract.request import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.core.validation import validate
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat

Wire = dict[str, Any]


def decode(*messages: Wire, strict: bool = False) -> CompletionRequest:
    return decode_chat({"messages": list(messages)}, CallOptions(strict=strict)).request


def user(content: object = "hi", **more: object) -> Wire:
    return {"role": "user", "content": content, **more}


def system(content: object) -> Wire:
    return {"role": "system", "content": content}


def developer(content: object) -> Wire:
    return {"role": "developer", "content": content}


def assistant(content: object = "ok", **more: object) -> Wire:
    return {"role": "assistant", "content": content, **more}


def calls(*ids: str, **more: object) -> Wire:
    made = [
        {"id": id, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        for id in ids
    ]
    return {"role": "assistant", "tool_calls": made, **more}


def tool(id: str, content: object = "42") -> Wire:
    return {"role": "tool", "tool_call_id": id, "content": content}


def text(value: str) -> Wire:
    return {"type": "text", "text": value}


def said(role: Role, *parts: Part) -> Message:
    return Message(role, parts)


def S(text: str) -> TextPart:
    return TextPart(text, system=True)


U, A, T = Role.USER, Role.ASSISTANT, TextPart
HI = said(U, T("hi"))
CALL = ToolCallPart("c1", "f", '{"a": 1}')
RESULT = ToolResultPart("c1", (T("42"),))


@pytest.mark.parametrize(
    ("messages", "decoded"),
    [
        ([user()], [HI]),
        ([user([text("a"), text("b")])], [said(U, T("a"), T("b"))]),
        ([user([text(""), text("b")])], [said(U, T("b"))]),
        ([user("")], [said(U, T(""))]),
        ([user(None)], [said(U, T(""))]),
        ([user([])], [said(U, T(""))]),
        ([user([text("")])], [said(U, T(""))]),
        ([user("a"), user("b")], [said(U, T("a"), T("b"))]),
        ([user("a"), user(""), user("b")], [said(U, T("a"), T("b"))]),
        ([user("a"), system("s"), user("b")], [said(U, T("a"), S("s"), T("b"))]),
        ([user("a"), system([text("s"), text("t")])], [said(U, T("a"), S("s\nt"))]),
        ([user("a"), system(""), system(" "), user("b")], [said(U, T("a"), T("b"))]),
        (
            [user(), assistant("a"), developer("s"), assistant("b"), user()],
            [HI, said(A, T("a")), said(U, S("s")), said(A, T("b")), HI],
        ),
        ([user(), assistant("a"), developer("s")], [HI, said(A, T("a")), said(U, S("s"))]),
        (
            [user(), calls("c1"), system("s"), tool("c1"), developer("t"), user("and?")],
            [HI, said(A, CALL), said(U, S("s"), RESULT, S("t"), T("and?"))],
        ),
        ([assistant("a"), user()], [said(A, T("a")), HI]),
        ([user(), assistant(), user()], [HI, said(A, T("ok")), HI]),
        ([user(), assistant(None), user()], [HI, said(A, T("")), HI]),
        ([user(), {"role": "assistant"}, user()], [HI, said(A, T("")), HI]),
        ([user(), assistant(""), user()], [HI, said(A, T("")), HI]),
        ([user(), assistant("a"), assistant("b"), user()], [HI, said(A, T("a"), T("b")), HI]),
        ([user(), assistant([text("a"), text("b")]), user()], [HI, said(A, T("a"), T("b")), HI]),
        (
            [user(), assistant([{"type": "refusal", "refusal": "no"}]), user()],
            [HI, said(A, T("no")), HI],
        ),
        ([user(), assistant(None, refusal="no"), user()], [HI, said(A, T("no")), HI]),
        ([user(), calls("c1"), tool("c1")], [HI, said(A, CALL), said(U, RESULT)]),
        (
            [user(), calls("c1", content="let me see"), tool("c1"), user("and?")],
            [HI, said(A, T("let me see"), CALL), said(U, RESULT, T("and?"))],
        ),
        (
            [user(), calls("c1"), user("wait"), tool("c1")],
            [HI, said(A, CALL), said(U, T("wait"), RESULT)],
        ),
        (
            [user(), calls("c1", "c2"), tool("c2", "2"), tool("c1", "1")],
            [
                HI,
                said(A, CALL, ToolCallPart("c2", "f", '{"a": 1}')),
                said(U, ToolResultPart("c2", (T("2"),)), ToolResultPart("c1", (T("1"),))),
            ],
        ),
        (
            [user(), calls("c1"), calls("c2"), tool("c1"), tool("c2")],
            [
                HI,
                said(A, CALL, ToolCallPart("c2", "f", '{"a": 1}')),
                said(U, RESULT, ToolResultPart("c2", (T("42"),))),
            ],
        ),
        (
            [user(), calls("c1"), tool("c1"), calls("c1"), tool("c1")],
            [HI, said(A, CALL), said(U, RESULT), said(A, CALL), said(U, RESULT)],
        ),
        (
            [user(), calls("c1"), tool("c1", [text("a"), text("b")])],
            [HI, said(A, CALL), said(U, ToolResultPart("c1", (T("a"), T("b"))))],
        ),
        (
            [user(), calls("c1"), tool("c1", None)],
            [HI, said(A, CALL), said(U, ToolResultPart("c1"))],
        ),
        (
            [user(), calls("c1"), tool("c1", "")],
            [HI, said(A, CALL), said(U, ToolResultPart("c1"))],
        ),
    ],
)
def test_a_conversation(messages: list[Wire], decoded: list[Message]) -> None:
    request = decode(*messages)

    assert list(request.messages) == decoded
    assert request.ignored == ()


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([user()], None),
        ([system("a"), user()], "a"),
        ([developer("a"), user()], "a"),
        ([system("a"), developer("b"), user()], "a\nb"),
        ([system([text("a"), text("b")]), user()], "a\nb"),
        ([system(""), user()], None),
        ([system(None), user()], None),
        ([system(" \n"), user()], None),
        ([system(""), system("a"), user()], "a"),
    ],
)
def test_the_system_messages_before_all_others_are_the_system_prompt(
    messages: list[Wire], prompt: str | None
) -> None:
    request = decode(*messages)

    assert request.system == prompt
    assert request.messages == (HI,)


def test_each_turn_has_its_place_in_the_request() -> None:
    request = decode(system("s"), user(), user(), calls("c1"), tool("c1"), user(), system("t"))

    assert [message.origin for message in request.messages] == [
        "messages[1]",
        "messages[3]",
        "messages[4]",
    ]


def test_the_deprecated_form_of_calls_is_read() -> None:
    called = {"name": "f", "arguments": "{}"}
    request = decode(
        user(),
        {"role": "assistant", "content": None, "function_call": called},
        {"role": "function", "name": "f", "content": "42"},
    )

    assert request.messages[1:] == (
        said(A, ToolCallPart("function_call_1", "f", "{}")),
        said(U, ToolResultPart("function_call_1", (T("42"),))),
    )


@pytest.mark.parametrize("arguments", ["", "  "])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": arguments}}
    request = validate(decode(user(), assistant(None, tool_calls=[call]), tool("c1")))

    assert request.messages[1] == said(A, ToolCallPart("c1", "f", "{}"))
    assert request.repaired == ()


def test_calls_without_a_result_of_any_are_left_out_where_the_conversation_continues() -> None:
    answer = assistant("I look.", tool_calls=calls("c1", "c2")["tool_calls"])
    request = validate(decode(user(), answer, user()))
    assert request.messages == (HI, said(A, T("I look.")), HI)
    assert request.repaired == ("messages.tool_calls.function.arguments",)

    request = validate(decode(user(), calls("c1"), assistant("Well?"), user()))
    assert request.messages[1] == said(A, T("Well?"))


def test_malformed_arguments_are_passed_on_as_text_and_named() -> None:
    made = {"name": "f", "arguments": "{"}
    calls = assistant(None, tool_calls=[{"id": "c1", "function": made}])
    request = validate(decode(user(), calls, tool("c1")))
    assert request.messages[1] == said(A, ToolCallPart("c1", "f", '{"_malformed_arguments": "{"}'))
    assert request.repaired == ("messages.tool_calls.function.arguments",)

    again = {"role": "function", "name": "f", "content": "bad"}
    request = validate(decode(user(), assistant(None, function_call=made), again))
    assert request.repaired == ("messages.function_call.arguments",)


PNG = base64.b64encode(b"\x89PNG not really").decode()
PDF = base64.b64encode(b"%PDF-1.7 not really").decode()
ZIP = "data:application/zip;base64,UEsDBA=="
TXT = base64.b64encode(b"plain").decode()


def image(url: object, **more: object) -> Wire:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(**source: object) -> Wire:
    return {"type": "file", "file": source}


@pytest.mark.parametrize(
    ("part", "decoded"),
    [
        (image(f"data:image/png;base64,{PNG}"), ImagePart(InlineData("image/png", PNG))),
        (image(f"data:image/jpg;base64,{PNG}"), ImagePart(InlineData("image/jpeg", PNG))),
        (image(f"DATA:IMAGE/GIF;BASE64,{PNG}"), ImagePart(InlineData("image/gif", PNG))),
        (
            image(f"data:image/webp;charset=x;base64,{PNG[:8]}\n{PNG[8:]}"),
            ImagePart(InlineData("image/webp", PNG)),
        ),
        (image("https://x.test/a.png"), ImagePart(UrlSource("https://x.test/a.png"))),
        (image("HTTPS://x.test/a.png"), ImagePart(UrlSource("HTTPS://x.test/a.png"))),
        (image("https://x.test/a", detail="auto"), ImagePart(UrlSource("https://x.test/a"))),
        (
            {"type": "image_url", "image_url": "https://x.test/a"},
            ImagePart(UrlSource("https://x.test/a")),
        ),
        (
            file(file_data=f"data:application/pdf;base64,{PDF}", filename="a.pdf"),
            DocumentPart(InlineData("application/pdf", PDF), "a.pdf"),
        ),
        (file(file_data=PDF), DocumentPart(InlineData("application/pdf", PDF))),
        (file(file_data=TXT), DocumentPart(InlineData("text/plain", TXT))),
        (
            file(file_data=f"data:text/csv;base64,{TXT}"),
            DocumentPart(InlineData("text/plain", TXT)),
        ),
        (
            {**text("a"), "prompt_cache_breakpoint": {"mode": "explicit"}},
            TextPart("a"),
        ),
    ],
)
def test_a_part(part: Wire, decoded: Part) -> None:
    request = decode(user([part]))

    assert request.messages == (said(U, decoded),)
    assert request.ignored == ()


@pytest.mark.parametrize(
    ("part", "field", "reason"),
    [
        (image("http://x.test/a"), ".image_url.url", "INVALID_IMAGE_URL"),
        (image("ftp://x.test/a"), ".image_url.url", "INVALID_IMAGE_URL"),
        (image("file:///etc/passwd"), ".image_url.url", "INVALID_IMAGE_URL"),
        (image("a.png"), ".image_url.url", "INVALID_IMAGE_URL"),
        (
            {"type": "image_url", "image_url": "ftp://x.test/a"},
            ".image_url",
            "INVALID_IMAGE_URL",
        ),
        (image(f"data:image/bmp;base64,{PNG}"), ".image_url.url", "INVALID_IMAGE_URL"),
        (image("data:image/png;base64,!!!"), ".image_url.url", "INVALID_VALUE"),
        (image("data:image/png;base64,"), ".image_url.url", "INVALID_VALUE"),
        (image("data:image/png,abc"), ".image_url.url", "INVALID_VALUE"),
        (file(file_data="?"), ".file.file_data", "INVALID_VALUE"),
        (file(), ".file.file_data", "MISSING_REQUIRED_PARAMETER"),
        (file(file_id="file-1"), ".file.file_id", "UNSUPPORTED_VALUE"),
        (
            file(file_data=f"data:application/zip;base64,{TXT}"),
            ".file.file_data",
            "UNSUPPORTED_VALUE",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            ".type",
            "UNSUPPORTED_VALUE",
        ),
    ],
)
def test_a_part_that_cannot_be_used_names_its_field(part: Wire, field: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate(decode(user([text("a"), part])))

    assert caught.value.field == f"messages[0].content[1]{field}"
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("after", "roles"), [([], [U, A]), ([system(" ")], [U, A]), ([system("s")], [U, A, U])]
)
def test_a_conversation_may_end_with_the_assistant_or_a_system_message(
    after: list[Wire], roles: list[Role]
) -> None:
    asked = validate(decode(user(), assistant(), *after))
    assert [message.role for message in asked.messages] == roles


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([system("s")], "messages"),
        ([user(), tool("c1")], "messages[1].tool_call_id"),
        ([user(), calls("c1"), tool("c1"), tool("c1")], "messages[3].tool_call_id"),
        ([user(), calls("c1"), tool("c2")], "messages[2].tool_call_id"),
        ([user(), calls("c1")], "messages[1].tool_calls[0].id"),
        ([user(), calls("c1", "c2"), tool("c1")], "messages[1].tool_calls[1].id"),
        ([user(), calls("c1"), user(), assistant(), tool("c1")], "messages[4].tool_call_id"),
        ([user(), calls("c1", "c1"), tool("c1")], "messages[1].tool_calls[1].id"),
        (
            [user(), calls("c1"), {"role": "tool", "content": "x"}],
            "messages[2].tool_call_id",
        ),
        ([user(), {"role": "function", "name": "f", "content": "x"}], "messages[1].name"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "system"}, user()], "messages[0].content"),
        ([user(), calls("c1"), {"role": "tool", "tool_call_id": "c1"}], "messages[2].content"),
        ([system([image("https://x.test/a")]), user()], "messages[0].content"),
        ([user(), system([image("https://x.test/a")])], "messages[1].content"),
        ([assistant([image("https://x.test/a")]), user()], "messages[0].content"),
        (
            [user(), calls("c1"), tool("c1", [file(file_data=ZIP)])],
            "messages[2].content[0].file.file_data",
        ),
        (
            [user(), assistant(None, tool_calls=[{"id": "c1"}]), tool("c1")],
            "messages[1].tool_calls[0].function",
        ),
    ],
)
def test_a_conversation_that_cannot_be_answered_names_the_place(
    messages: list[Wire], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        validate(decode(*messages))

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (assistant(None, audio={"id": "a"}), "messages[1].audio"),
        (
            assistant(None, tool_calls=[{"id": "c", "type": "custom", "custom": {}}]),
            "messages[1].tool_calls[0].type",
        ),
    ],
)
def test_an_answer_of_a_kind_that_claude_has_not_is_unsupported(message: Wire, field: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        decode(user(), message, user())

    assert caught.value.field == field


NOTED: list[tuple[list[Wire], str, str]] = [
    ([user(name="ann")], "messages.name", "messages[0].name"),
    ([user([image("https://x.test/a", detail="low")])], "messages.content.image_url.detail", ""),
    ([user([{**text("a"), "weight": 2}])], "messages.content.weight", ""),
    (
        [user(), assistant(provider_specific_fields={"a": 1}), user()],
        "messages.provider_specific_fields",
        "messages[1].provider_specific_fields",
    ),
    (
        [user(), assistant(annotations=[{"type": "url_citation"}]), user()],
        "messages.annotations",
        "",
    ),
    ([user(reasoning_content="x")], "messages.reasoning_content", ""),
]


@pytest.mark.parametrize(("messages", "name", "field"), NOTED)
def test_what_has_no_effect_in_a_message_is_named(
    messages: list[Wire], name: str, field: str
) -> None:
    assert decode(*messages).ignored == (name,)
    with pytest.raises(UnsupportedError) as caught:
        decode(*messages, strict=True)
    assert field in (caught.value.field or "")


def test_our_own_reply_comes_back_without_a_word() -> None:
    reply = {
        **calls("c1", content=None),
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "reasoning_content": "hm",
    }

    request = decode(user(), reply, tool("c1"), strict=True)

    assert request.messages[1] == said(A, CALL)
