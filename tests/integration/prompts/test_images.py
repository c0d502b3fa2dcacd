"""Images reach the model by their true type, and never become a remark of Claude Code's."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from typing import Any

import pytest

from bridge.core.contract.request import ImagePart, InlineData, ToolCallPart, ToolResultPart
from bridge.simulator import Exchange
from tests.integration.parity.scenarios import PNG, STRICT, new_marker
from tests.integration.prompts.test_text import ask
from tests.support.apis import APIS, Scenario
from tests.support.harness import RunningBridge, assistant, sim, user


def png(width: int, height: int, *, noise: bool = False) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    def line() -> bytes:
        return b"\0" + (draw.randbytes(3 * width) if noise else bytes(3 * width))

    draw = random.Random(1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(line() for _ in range(height)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def image(data: bytes, media_type: str = "image/png") -> ImagePart:
    return ImagePart(InlineData(media_type, base64.b64encode(data).decode()))


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def blocks(exchange: Exchange) -> list[dict[str, Any]]:
    """The content of the user turns, with that of results in their place."""
    return [
        inner
        for message in exchange.messages
        if message["role"] == "user"
        for block in message["content"]
        for inner in (block["content"] if block["type"] == "tool_result" else [block])
    ]


def test_an_image_goes_out_by_its_true_type(bridge: RunningBridge, api: str) -> None:
    marker = new_marker()
    jpeg = ImagePart(InlineData("image/jpeg", PNG.base64))
    call = ToolCallPart("toolu_1", "look", "{}")
    messages = [
        user(jpeg),
        assistant(call),
        user(ToolResultPart("toolu_1", (jpeg,))),
        assistant("ok"),
        user(jpeg, f"{marker} " + sim(text="ok")),
    ]
    answer, exchange = ask(bridge, api, messages, marker)
    sources = [block["source"] for block in blocks(exchange) if block["type"] == "image"]
    assert [(source["media_type"], source["data"]) for source in sources] == [
        ("image/png", PNG.base64)
    ] * 3
    assert answer.ignored == ()


def test_a_large_one_that_is_damaged_is_refused(bridge: RunningBridge, api: str) -> None:
    whole = png(1300, 1300, noise=True)
    assert len(whole) * 4 / 3 > 5 * 1024 * 1024
    damaged = bytearray(whole)
    damaged[1_000_000] ^= 1
    for data in (whole[:-100_000], bytes(damaged), png(2001, 20)[:-30]):
        messages = (user(image(data), sim(text="ok")),)
        failure = APIS[api](bridge, Scenario("", messages), new_marker()).failure
        assert failure is not None
        assert (failure.reason, failure.field) == ("invalid_image", "messages[0]")
        assert "is damaged" in failure.message
    marker = new_marker()
    answer, exchange = ask(bridge, api, [user(image(whole), marker + sim(text="ok"))], marker)
    assert [block["type"] for block in blocks(exchange)] == ["image", "text"]
    assert answer.ignored == ()


def test_a_small_one_that_is_damaged_is_the_apis_to_judge(bridge: RunningBridge) -> None:
    marker = new_marker()
    sent = image(png(200, 200)[:-30])
    _, exchange = ask(bridge, "http", [user(sent, marker + sim(text="ok"))], marker)
    assert isinstance(sent.source, InlineData)
    assert blocks(exchange)[0]["source"]["data"] == sent.source.base64


@pytest.mark.parametrize(
    ("size", "ignored"),
    [
        ((2000, 1500), ()),
        ((1932, 1932), ()),
        ((1932, 1933), ("messages",)),
        ((2001, 8), ("messages",)),
    ],
)
def test_where_claude_code_adds_a_text_about_its_size_that_is_named(
    bridge: RunningBridge, api: str, size: tuple[int, int], ignored: tuple[str, ...]
) -> None:
    marker = new_marker()
    question = user(image(png(*size)), f"{marker} " + sim(text="ok"))
    answer, exchange = ask(bridge, api, [question], marker)
    added = [block for block in blocks(exchange) if block.get("text", "").startswith("[Image:")]
    assert bool(added) is bool(ignored)
    assert answer.ignored == ignored
    strict = Scenario("", (question,), grpc={"strict": True}, **STRICT)
    failure = APIS[api](bridge, strict, marker).failure
    assert (failure is not None) is bool(ignored)
