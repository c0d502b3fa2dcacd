"""The engine refuses a request exactly where the rules say so, whichever API it came by.

A request is built that keeps to every rule; then one rule is broken at a place that is known. What
the rules are is written down here as what breaks them, and not a second time as code that checks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core.access.keys import KeyLimits
from bridge.core.access.quotas import Quotas
from bridge.core.contract.errors import (
    BridgeError,
    DrainingError,
    InvalidRequestError,
    RateLimitedError,
)
from bridge.core.contract.request import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    OutputFormat,
    OutputKind,
    Part,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
    UrlSource,
)
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.pool.policy import PoolLimits
from bridge.core.telemetry.request_record import RequestRecord
from bridge.core.telemetry.session_log import SessionLog
from bridge.grpc_server.wire.decode import decode_request
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.responses.decode import Past, decode_responses, parse_responses
from tests.support.claude.fake_process import fake_launcher
from tests.support.encoding import Json, chat_body, proto, responses_body
from tests.support.harness import SCALE
from tests.unit.core.validation.test_images import PNG, of

IMAGE = ImagePart(InlineData("image/png", of(PNG)))
NOTE = DocumentPart(InlineData("text/plain", of(b"A note.")))
LINK = ImagePart(UrlSource("https://images.example/cat.png"))
EXAMPLES = settings(
    max_examples=20 * SCALE,
    derandomize=SCALE == 1,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# Requests that keep to the rules

texts = st.sampled_from(["a", "Hello?", " ", "ünï"])
pieces: st.SearchStrategy[TextPart | ImagePart] = st.one_of(
    texts.map(TextPart), st.sampled_from([IMAGE, LINK])
)
said: st.SearchStrategy[Part] = st.one_of(pieces, st.just(NOTE))
names = st.text("abcXYZ019_-", min_size=1, max_size=64)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns from the user to the user: a call in the one before the last, and a result in that."""
    messages = [Message(Role.USER, tuple(draw(st.lists(said, min_size=1, max_size=3))))]
    for turn in range(draw(st.integers(0, 2)) + 1):
        ids = [f"call_{turn % 2}{index}" for index in range(draw(st.integers(1, 3)))]
        calls = [
            ToolCallPart(id, draw(names), draw(st.sampled_from(["{}", '{"a": 1}']))) for id in ids
        ]
        before = [TextPart(text) for text in draw(st.lists(texts, max_size=1))]
        messages.append(Message(Role.ASSISTANT, (*before, *calls)))
        results: list[Part] = [
            ToolResultPart(id, tuple(draw(st.lists(pieces, max_size=2))))
            for id in draw(st.permutations(ids))
        ]
        after = draw(st.lists(said, max_size=2))
        messages.append(Message(Role.USER, (*results, *after)))
    return tuple(messages)


@st.composite
def requests(draw: st.DrawFn) -> CompletionRequest:
    tools = tuple(Tool(name) for name in draw(st.lists(names, min_size=2, max_size=4, unique=True)))
    mode = draw(st.sampled_from(ToolMode))
    some = draw(st.lists(st.sampled_from(tools), max_size=2, unique_by=lambda tool: tool.name))
    choice = ToolChoice(mode)
    if mode is ToolMode.NAMED:
        choice = ToolChoice(mode, draw(st.sampled_from(tools)).name)
    elif mode in (ToolMode.AUTO, ToolMode.REQUIRED):
        choice = ToolChoice(mode, allowed=tuple(tool.name for tool in some))
    unit = st.one_of(st.none(), st.floats(0, 1, width=32))
    kind = draw(st.sampled_from(OutputKind))
    schema = {"type": "object"} if kind is OutputKind.JSON_SCHEMA else None
    return CompletionRequest(
        draw(conversations()),
        tools=tools,
        tool_choice=choice,
        sampling=Sampling(draw(unit), draw(unit)),
        max_output_tokens=draw(st.one_of(st.none(), st.integers(1, 2**31 - 1))),
        output_format=OutputFormat(kind, schema=schema),
        labels=draw(st.dictionaries(names, texts, max_size=3)),
    )


# What breaks them

Broken = tuple[CompletionRequest, str]
ALL = frozenset({"chat", "responses", "grpc"})
GRPC = frozenset({"grpc"})
HTTP = frozenset({"chat", "responses"})


@dataclass(frozen=True)
class Fault:
    """One way to break a rule: the request that does, and the field that is wrong."""

    name: str
    breaks: Callable[[CompletionRequest], Broken]
    apis: frozenset[str] = ALL
    """Where it can be said. Each API has values that cannot be written down in it."""


def more(request: CompletionRequest, *messages: Message) -> CompletionRequest:
    return replace(request, messages=(*request.messages, *messages))


def changed(request: CompletionRequest, index: int, *parts: Part) -> CompletionRequest:
    messages = list(request.messages)
    messages[index] = replace(messages[index], parts=parts)
    return replace(request, messages=tuple(messages))


def ending(request: CompletionRequest, part: Part, rest: str = "") -> Broken:
    """The request with one more part in its last message, which is wrong."""
    last = request.messages[-1].parts
    at = len(request.messages) - 1
    return changed(request, at, *last, part), f"messages[{at}].parts[{len(last)}]{rest}"


def recalled(rest: str, **fields: Any) -> Callable[[CompletionRequest], Broken]:
    """Change the last call of the conversation, and its result with it."""

    def breaks(request: CompletionRequest) -> Broken:
        at = len(request.messages) - 2
        *before, call = request.messages[at].parts
        assert isinstance(call, ToolCallPart)
        request = changed(request, at, *before, replace(call, **fields))
        if (id := fields.get("id")) is not None:
            parts = [
                replace(part, call_id=id)
                if isinstance(part, ToolResultPart) and part.call_id == call.id
                else part
                for part in request.messages[-1].parts
            ]
            request = changed(request, at + 1, *parts)
        return request, f"messages[{at}].parts[{len(before)}].tool_call{rest}"

    return breaks


def unanswered(request: CompletionRequest) -> Broken:
    at = len(request.messages) - 1
    parts = request.messages[at - 1].parts
    broken = changed(request, at - 1, *parts, ToolCallPart("another", "look", "{}"))
    return broken, f"messages[{at - 1}].parts[{len(parts)}].tool_call.result"


def twice(request: CompletionRequest) -> Broken:
    at = len(request.messages) - 2
    parts = request.messages[at].parts
    return changed(request, at, *parts, parts[-1]), f"messages[{at}].parts[{len(parts)}].tool_call"


def image_of_the_assistant(request: CompletionRequest) -> Broken:
    at = len(request.messages) - 2
    return changed(request, at, IMAGE, *request.messages[at].parts), (
        f"messages[{at}].parts[0].image"
    )


def image_in_a_result(request: CompletionRequest) -> Broken:
    at = len(request.messages) - 1
    first, *others = request.messages[at].parts
    assert isinstance(first, ToolResultPart)
    bad = ImagePart(InlineData("image/bmp", of(PNG)))
    result = replace(first, content=(TextPart("see"), bad))
    path = f"messages[{at}].parts[0].tool_result.content[1].image"
    return changed(request, at, result, *others), path


def unreadable(request: CompletionRequest) -> Broken:
    bad = ImagePart(InlineData("image/png", of(PNG[:8])))
    broken, _ = ending(request, bad)
    return broken, f"messages[{len(request.messages) - 1}]"


def nothing(request: CompletionRequest) -> Broken:
    empty = Message(Role.USER, (TextPart(""),))
    broken = more(request, Message(Role.ASSISTANT, (TextPart("Yes."),)), empty)
    return broken, f"messages[{len(broken.messages) - 1}]"


def choosing(path: str, **fields: Any) -> Callable[[CompletionRequest], Broken]:
    return lambda request: (replace(request, tool_choice=ToolChoice(**fields)), path)


def sampling(path: str, **fields: Any) -> Callable[[CompletionRequest], Broken]:
    return lambda request: (replace(request, sampling=Sampling(**fields)), path)


def labelling(path: str, **labels: str) -> Callable[[CompletionRequest], Broken]:
    return lambda request: (replace(request, labels=labels), path)


def output(kind: OutputKind, schema: Json | None) -> Callable[[CompletionRequest], Broken]:
    made = OutputFormat(kind, schema=schema)
    return lambda request: (replace(request, output_format=made), "output_format.schema")


def offering(name: str) -> Callable[[CompletionRequest], Broken]:
    return lambda request: (
        replace(request, tools=(*request.tools, Tool(name)), tool_choice=ToolChoice()),
        f"tools[{len(request.tools)}].name",
    )


FAULTS = (
    Fault("no messages", lambda request: (replace(request, messages=()), "messages")),
    Fault("nothing is said last", nothing),
    Fault(
        "a message without parts",
        lambda request: (changed(request, 0), "messages[0]"),
        GRPC,
    ),
    Fault("a call without its result beside one that has its own", unanswered),
    Fault(
        "a result without its call",
        lambda request: ending(request, ToolResultPart("nobody"), ".tool_result"),
    ),
    Fault(
        "a second result of one call",
        lambda request: ending(request, request.messages[-1].parts[0], ".tool_result"),
    ),
    Fault("two calls of one id", twice),
    Fault("a call without an id", recalled(".id", id="")),
    Fault("a call without a name", recalled(".name", name="")),
    Fault("an image of the assistant's", image_of_the_assistant),
    Fault(
        "a call of the user's",
        lambda request: ending(request, ToolCallPart("c", "f", "{}"), ".tool_call"),
        GRPC,
    ),
    Fault(
        "a result of the assistant's",
        lambda request: (
            changed(request, 1, ToolResultPart("c"), *request.messages[1].parts),
            "messages[1].parts[0].tool_result",
        ),
        GRPC,
    ),
    Fault(
        "an image by an open address",
        lambda request: ending(request, ImagePart(UrlSource("http://x.example/a")), ".image"),
    ),
    Fault(
        "an image of another type",
        lambda request: ending(request, ImagePart(InlineData("image/bmp", of(PNG))), ".image"),
    ),
    Fault(
        "an image without data",
        lambda request: ending(request, ImagePart(InlineData("image/png", "")), ".image"),
    ),
    Fault("an image of another type in a result", image_in_a_result),
    Fault("an image that is none", unreadable),
    Fault(
        "a document of another type",
        lambda request: ending(
            request, DocumentPart(InlineData("application/zip", of(b"PK"))), ".document"
        ),
    ),
    Fault(
        "a document without data",
        lambda request: ending(
            request, DocumentPart(InlineData("application/pdf", "")), ".document"
        ),
    ),
    Fault("a tool's name with a space", offering("a b")),
    Fault("a tool's name that is too long", offering("a" * 65)),
    Fault(
        "two tools of one name",
        lambda request: offering(request.tools[0].name)(request),
    ),
    Fault(
        "a call required without tools",
        lambda request: (
            replace(request, tools=(), tool_choice=ToolChoice(ToolMode.REQUIRED)),
            "tool_choice.mode",
        ),
    ),
    Fault(
        "a tool named that is not there",
        choosing("tool_choice.name", mode=ToolMode.NAMED, name="not there"),
    ),
    Fault("a tool named without a name", choosing("tool_choice.name", mode=ToolMode.NAMED)),
    Fault("a name without need", choosing("tool_choice.name", name="any"), GRPC),
    Fault(
        "a tool allowed that is not there",
        lambda request: choosing(
            "tool_choice.allowed[1]", allowed=(request.tools[0].name, "not there")
        )(request),
    ),
    Fault(
        "a tool named that is not allowed",
        lambda request: choosing(
            "tool_choice.name",
            mode=ToolMode.NAMED,
            name=request.tools[1].name,
            allowed=(request.tools[0].name,),
        )(request),
        GRPC,
    ),
    Fault("a temperature below 0", sampling("sampling.temperature", temperature=-0.5)),
    Fault("a temperature above all scales", sampling("sampling.temperature", temperature=2.5)),
    Fault("a temperature above 1", sampling("sampling.temperature", temperature=1.5), GRPC),
    Fault(
        "a temperature that is none",
        sampling("sampling.temperature", temperature=float("nan")),
        GRPC,
    ),
    Fault("a top_p above 1", sampling("sampling.top_p", top_p=1.5)),
    Fault(
        "five stop texts",
        sampling("sampling.stop", stop=tuple("abcde")),
        frozenset({"chat", "grpc"}),
    ),
    Fault("an empty stop text", sampling("sampling.stop[1]", stop=("a", "")), GRPC),
    Fault(
        "a stop text that is too long",
        sampling("sampling.stop", stop=("a" * 1001,)),
        ALL - {"responses"},
    ),
    Fault(
        "no token at all",
        lambda request: (replace(request, max_output_tokens=0), "max_output_tokens"),
    ),
    Fault(
        "more tokens than there are",
        lambda request: (replace(request, max_output_tokens=2**31), "max_output_tokens"),
        HTTP,
    ),
    Fault("a schema that is not there", output(OutputKind.JSON_SCHEMA, None)),
    Fault("too many labels", labelling("labels", **{f"n{number}": "" for number in range(17)})),
    Fault("a label whose name is too long", labelling("labels", **{"n" * 65: ""})),
    Fault("a label whose value is too long", labelling("labels.n", n="v" * 513)),
    Fault("a schema without need", output(OutputKind.TEXT, {"type": "object"}), GRPC),
)


# The ways in


def by_chat(request: CompletionRequest) -> tuple[Json, Callable[[], CompletionRequest]]:
    body = chat_body(request)
    return body, lambda: decode_chat(body, CallOptions()).request


def by_responses(request: CompletionRequest) -> tuple[Json, Callable[[], CompletionRequest]]:
    body = responses_body(request)

    def decode() -> CompletionRequest:
        wire = parse_responses(body)
        return decode_responses(wire, body, CallOptions(), Past(), "00", keeps=False).request

    return body, decode


def by_grpc(request: CompletionRequest) -> tuple[Json, Callable[[], CompletionRequest]]:
    wire = proto(request)
    sent = MessageToDict(
        wire, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return sent, lambda: decode_request(wire)


WAYS = {"chat": by_chat, "responses": by_responses, "grpc": by_grpc}

Judge = Callable[[Callable[[], CompletionRequest]], BridgeError | None]


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """Return the error with which an engine refuses a request; None if it would answer.

    It has been closed: what it would answer, it refuses for that.
    """
    loop = asyncio.new_event_loop()

    async def closed() -> Engine:
        engine = Engine(fake_launcher(), EngineOptions(PoolLimits(1, 1, 0)), SessionLog(None))
        await engine.aclose()
        return engine

    engine = loop.run_until_complete(closed())

    def judged(asked: Callable[[], CompletionRequest]) -> BridgeError | None:
        try:
            loop.run_until_complete(anext(engine.complete(asked())))
        except DrainingError:
            return None
        except BridgeError as error:
            return error
        raise AssertionError("an engine that is closed has answered")

    yield judged
    loop.close()


def is_there(sent: Any, field: str) -> bool:
    """Whether a caller finds a field in what it has sent."""
    for name, index in re.findall(r"\.?([^.\[\]]+)|\[(\d+)\]", field):
        try:
            sent = sent[int(index) if index else name]
        except (KeyError, IndexError, TypeError):
            return False
    return True


MISSED = re.compile(r"(\.tool_call_id|\.json_schema\.schema|^text\.format\.schema)$")
"""What is missed cannot be found; what it is missed in can."""


@given(requests())
@EXAMPLES
def test_valid_requests_are_accepted(judge: Judge, request_: CompletionRequest) -> None:
    assert judge(lambda: request_) is None
    for way in WAYS.values():
        sent, asked = way(request_)
        assert judge(asked) is None, sent


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
@given(request_=requests())
@EXAMPLES
def test_what_breaks_one_is_refused_by_the_name_of_the_field(
    judge: Judge, fault: Fault, request_: CompletionRequest
) -> None:
    broken, path = fault.breaks(request_)
    refused = judge(lambda: broken)
    assert isinstance(refused, InvalidRequestError)
    assert refused.field == path
    for name in fault.apis:
        sent, asked = WAYS[name](broken)
        error = judge(asked)
        assert isinstance(error, InvalidRequestError), (name, sent)
        field = error.field or ""
        holder = MISSED.sub("", field)
        assert field
        assert is_there(sent, field if field == holder or is_there(sent, field) else holder), (
            name,
            field,
            sent,
        )


async def test_what_is_refused_is_noted_and_costs_its_key_nothing() -> None:
    quotas = Quotas(lambda caller: KeyLimits(per_minute=1))
    log = Noted()
    engine = Engine(fake_launcher(), EngineOptions(PoolLimits(1, 1, 0)), log, quotas=quotas)
    await engine.aclose()
    good = CompletionRequest((Message(Role.USER, (TextPart("Hello?"),)),), caller="alice")
    bad = replace(good, max_output_tokens=0, model="opus", request_id="req_1")
    for _ in range(2):
        with pytest.raises(InvalidRequestError):
            await anext(engine.complete(bad))
    # The first that counts, and the second, which is one too many.
    for expected in (DrainingError, RateLimitedError):
        with pytest.raises(expected):
            await anext(engine.complete(good))
    assert [record.metadata()["error"] for record in log.ended_ones] == [
        *["INVALID_VALUE"] * 2,
        "DRAINING",
        "KEY_REQUESTS_PER_MINUTE",
    ]
    noted = log.ended_ones[0].metadata()
    assert (noted["request_id"], noted["key"], noted["model_asked"]) == ("req_1", "alice", "opus")


class Noted:
    """An observer that keeps what it gets."""

    def __init__(self) -> None:
        self.ended_ones: list[RequestRecord] = []

    def began(self, record: RequestRecord) -> None:
        pass

    def ended(self, record: RequestRecord) -> None:
        self.ended_ones.append(record)

    def booked(self, record: RequestRecord) -> None:
        pass
