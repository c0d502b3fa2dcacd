"""The protocol-neutral request: what a caller asks for, whichever API it came by.

Frozen data without behaviour. The front ends decode into it, the engine reads it, and nothing in
it is a wire type of HTTP, of gRPC or of the CLI.

An `origin` is where the caller wrote a message or a part, such as `messages[3].content[1]`, in the
caller's own words. It is for errors alone, and may be left empty where `FieldNames` need none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

JsonObject: TypeAlias = Mapping[str, Any]


class Role(StrEnum):
    """Who speaks in a message."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class InlineData:
    """Bytes that came with the request."""

    media_type: str
    base64: str


@dataclass(frozen=True, slots=True)
class UrlSource:
    """An https address that the Anthropic API fetches; the bridge never does."""

    url: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture: PNG, JPEG, GIF or WebP."""

    source: InlineData | UrlSource
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """A PDF or a text file. The inline media type is application/pdf or text/plain."""

    source: InlineData | UrlSource
    title: str | None = None
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A call that the assistant made in an earlier turn."""

    id: str
    name: str
    arguments: str
    """The arguments as JSON text, as the caller gave them."""
    cut: bool = False
    """Whether its caller says that the answer ended in the middle of it."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What the caller's tool answered."""

    call_id: str
    content: tuple[TextPart | ImagePart | DocumentPart, ...] = ()
    is_error: bool = False
    origin: str = field(default="", compare=False)


Part: TypeAlias = TextPart | ImagePart | DocumentPart | ToolCallPart | ToolResultPart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation."""

    role: Role
    parts: tuple[Part, ...]
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A field of a request, for an error to name."""

    path: str
    """What the core calls it: `tools[0].name`, `messages[3].parts[1].tool_call.arguments`."""
    origin: str = ""
    """Where the caller wrote the innermost part that it is in, or else the message."""
    rest: str = ""
    """The end of the path, from the kind of the part on; empty for a part or a message itself."""


FieldNames: TypeAlias = Callable[[Place], str]
"""What the callers of an API call a field."""


def neutral_name(place: Place) -> str:
    """What the core itself calls a field."""
    return place.path


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the caller's that the model may call."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=dict)
    """JSON Schema of the arguments; empty means an object of no fields."""


class ToolMode(StrEnum):
    """Whether the model may, must not or must call a tool."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """How the model uses the tools on offer."""

    mode: ToolMode = ToolMode.AUTO
    name: str | None = None
    """The tool to call, where mode is NAMED."""
    parallel: bool = True
    """Whether one answer may hold several calls."""
    allowed: tuple[str, ...] = ()
    """The tools that may be called, out of those on offer; empty means all."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and where the answer stops. None and empty mean the default."""

    temperature: float | None = None
    """0 to 1."""
    top_p: float | None = None
    """0 to 1."""
    stop: tuple[str, ...] = ()
    """Up to four texts that end the answer and are not part of it."""


class OutputKind(StrEnum):
    """What shape the answer has."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The shape of the answer, and its schema where it has one."""

    kind: OutputKind = OutputKind.TEXT
    name: str = ""
    schema: JsonObject | None = None


class Effort(StrEnum):
    """How hard the model works on the answer. NONE turns thinking off."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


# wide: one field for each thing that a request can ask for.
@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One completion, as a caller asks for it."""

    messages: tuple[Message, ...]
    model: str | None = None
    """None: the person's default model."""
    system: str | None = None
    """None: the server's default system prompt (`BRIDGE_SYSTEM_PROMPT`)."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    sampling: Sampling = Sampling()
    max_output_tokens: int | None = None
    output_format: OutputFormat = OutputFormat()
    effort: Effort | None = None
    include_thinking: bool = False
    """Whether thinking is part of the answer that is sent."""
    whole: bool = False
    """Whether its caller gets the answer in one piece, so that what comes can be held back."""
    timeout: float | None = None
    """Seconds for the whole request; the server's own limit holds besides, as in the next three."""
    queue_timeout: float | None = None
    """Seconds of waiting for a process."""
    first_token_timeout: float | None = None
    """Seconds from there to the first piece of the answer."""
    idle_timeout: float | None = None
    """Seconds between one piece of the answer and the next."""
    marks_cut_calls: bool = False
    """Whether its API says which calls were cut: then every other must have its result."""
    conversing: bool = False
    """Whether its door holds the conversation open, so that more of it is likely to come."""
    strict: bool = False
    """Whether what would be ignored is an error instead."""
    ignored: tuple[str, ...] = ()
    """Parameters that the door accepted without effect, by the caller's own names."""
    mended: tuple[str, ...] = ()
    """Fields that the model is told in another form, by the caller's own names: not ignored, so
    that a strict request may have them."""
    request_id: str = ""
    caller: str = ""
    """The name of the key it came with; conversations are never shared between keys."""
    door: str = ""
    """`http` or `grpc`, for the session log."""
    field_names: FieldNames = field(default=neutral_name, compare=False, repr=False)
    """What its caller calls the fields that are wrong."""
