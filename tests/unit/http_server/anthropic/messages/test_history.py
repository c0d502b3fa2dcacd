"""System prompts, system messages among the others, and the breakpoints of the prompt cache."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.contract.errors import InvalidRequestError, UnsupportedError
from bridge.core.contract.request import CompletionRequest, TextPart, ToolResultPart
from bridge.http_server.anthropic.messages.decode import decode_message_request
from bridge.http_server.context import CallOptions

MARK = {"cache_control": {"type": "ephemeral"}}
IGNORED = "messages.content.cache_control"


def request(*messages: Any, strict: bool = False, **parameters: Any) -> CompletionRequest:
    body = {"model": "opus", "max_tokens": 9, "messages": list(messages), **parameters}
    return decode_message_request(body, CallOptions(strict=strict)).request


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def marked(asked: CompletionRequest) -> list[Any]:
    """The parts with a breakpoint."""
    return [
        part
        for message in asked.messages
        for part in message.parts
        if getattr(part, "cache_breakpoint", False)
    ]


def test_blocks_of_the_system_prompt_are_joined_without_the_attribution() -> None:
    billing = "x-anthropic-billing-header: cc_version=2; cch=0;"

    assert request(user(text("hi")), system=[text(billing), text("a"), text("b")]).system == "a\nb"
    assert request(user(text("hi")), system=[text(billing)]).system is None


def test_a_system_message_among_the_others_keeps_its_place() -> None:
    asked = request(
        user(text("a")),
        assistant(text("b")),
        {"role": "system", "content": [text("Be brief.", **MARK)]},
        user(text("c")),
        system="S",
    )

    assert asked.system == "S"
    assert asked.messages[2].parts == (TextPart("Be brief.", system=True), TextPart("c"))
    assert asked.ignored == (IGNORED,)


def test_a_system_message_before_all_others_is_part_of_the_system_prompt() -> None:
    assert request({"role": "system", "content": "B"}, user(text("a")), system="A").system == "A\nB"


def test_an_effort_of_a_message_is_named_where_it_is_another() -> None:
    effort = {"role": "system", "content": [], "output_config": {"effort": "low"}}
    same, other = ({"effort": each} for each in ("low", "high"))

    assert request(user(text("a")), effort, output_config=same).ignored == ()
    assert request(user(text("a")), effort, output_config=other).ignored == (
        "messages.output_config.effort",
    )


def test_a_system_message_holds_text_only() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}}
    with pytest.raises(InvalidRequestError, match="is for text"):
        request(user(text("a")), {"role": "system", "content": [image]})


def test_the_last_breakpoint_is_kept_and_the_others_are_named() -> None:
    asked = request(
        user(text("a", **MARK)), assistant(text("b", **MARK)), user(text("c", **MARK), text("d"))
    )

    assert marked(asked) == [TextPart("c")]
    assert asked.ignored == (IGNORED,)


def test_a_single_breakpoint_is_nothing_to_speak_of() -> None:
    assert request(user(text("a", **MARK)), strict=True).ignored == ()


def test_another_breakpoint_is_an_error_in_strict_mode() -> None:
    with pytest.raises(UnsupportedError) as caught:
        request(user(text("a", **MARK)), assistant(text("b")), user(text("c", **MARK)), strict=True)
    assert caught.value.field == "messages[0].content[0].cache_control"


def test_a_breakpoint_where_none_can_be_set_gives_way_to_the_one_before() -> None:
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {}, **MARK}
    inner = [text("ok", **MARK)]
    asked = request(
        user(text("a", **MARK)),
        assistant(call),
        user({"type": "tool_result", "tool_use_id": "t", "content": inner}, text(" ", **MARK)),
    )

    assert marked(asked) == [TextPart("a")]
    assert asked.ignored == (IGNORED,)


def test_a_result_may_have_the_breakpoint() -> None:
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "ok", **MARK}
    asked = request(user(text("a")), assistant(call), user(result))

    assert marked(asked) == [ToolResultPart("t", (TextPart("ok"),))]


def test_breakpoints_within_the_system_prompt_and_the_tools_are_named() -> None:
    tools = [{"name": name, "input_schema": {}, **MARK} for name in ("look", "listen")]
    asked = request(user(text("a")), system=[text("a", **MARK), text("b", **MARK)], tools=tools)

    assert asked.ignored == ("system.cache_control", "tools.cache_control")
