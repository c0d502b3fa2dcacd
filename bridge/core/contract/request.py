"""The protocol-neutral request: what a caller asks for, through either API.

Frozen data without decisions. The front ends decode into it, the engine reads it, and it contains
no wire types of HTTP, of gRPC or of the CLI.

An `origin` is the place of a message or a part in the caller's request, such as
`messages[3].content[1]`, in the caller's own names. It is used in errors only, and may be empty if
`FieldNames` does not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

JsonObject: TypeAlias = Mapping[str, Any]


class Role(StrEnum):
    """The author of a message."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text."""

    text: str
    system: bool = False
    """Whether it is a system message of the caller's, in a message of the role USER: one in the
    middle of the conversation."""
    cache_breakpoint: bool = field(default=False, compare=False)
    """Whether the prompt is to be cached up to here, as the caller asks; one part of a request at
    most."""


@dataclass(frozen=True, slots=True)
class ThinkingPart:
    """What the assistant thought in an earlier turn, as the API signed it."""

    text: str = ""
    signature: str = ""
    encrypted: str = ""
    """Thinking that the API gave out encrypted only; the other two are empty then."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class InlineData:
    """Bytes that are part of the request."""

    media_type: str
    base64: str


@dataclass(frozen=True, slots=True)
class UrlSource:
    """An https URL that the Anthropic API fetches; the bridge never does."""

    url: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: PNG, JPEG, GIF or WebP."""

    source: InlineData | UrlSource
    origin: str = field(default="", compare=False)
    cache_breakpoint: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Pieces:
    """A document in pieces, which citations refer to by number."""

    content: tuple[TextPart | ImagePart, ...]


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """A PDF or a text file. The inline media type is application/pdf or text/plain."""

    source: InlineData | UrlSource | Pieces
    title: str | None = None
    origin: str = field(default="", compare=False)
    context: str | None = None
    """What the model is told of the document besides its title."""
    cache_breakpoint: bool = field(default=False, compare=False)
    citations: bool = False
    """Whether the answer is to cite it."""


@dataclass(frozen=True, slots=True)
class SearchResultPart:
    """A passage that a search of the caller has found."""

    source: str
    """Where it was found: a URL, or any other name."""
    title: str
    content: tuple[TextPart, ...]
    """In pieces, which citations refer to by number."""
    citations: bool = False
    """Whether the answer is to cite it."""
    origin: str = field(default="", compare=False)
    cache_breakpoint: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A call that the assistant made in an earlier turn."""

    id: str
    name: str
    arguments: str
    """The arguments as JSON text, as sent by the caller."""
    cut: bool = False
    """Whether its caller marks it as cut off by the end of the answer."""
    free_text: bool = False
    """Whether `arguments` is the text of a tool that takes one free text."""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """The result of one of the caller's tools."""

    call_id: str
    content: tuple[TextPart | ImagePart | DocumentPart | SearchResultPart, ...] = ()
    is_error: bool = False
    origin: str = field(default="", compare=False)
    cache_breakpoint: bool = field(default=False, compare=False)


Part: TypeAlias = (
    TextPart
    | ThinkingPart
    | ImagePart
    | DocumentPart
    | SearchResultPart
    | ToolCallPart
    | ToolResultPart
)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation."""

    role: Role
    parts: tuple[Part, ...]
    origin: str = field(default="", compare=False)

    def with_inner_parts(self) -> Iterator[Part]:
        """Yield its parts and, after each, those that it contains."""
        for part in self.parts:
            yield from _with_inner_parts(part)


def _with_inner_parts(part: Part) -> Iterator[Part]:
    yield part
    match part:
        case ToolResultPart(content=content) | SearchResultPart(content=content):
            pass
        case DocumentPart(source=Pieces(content)):
            pass
        case _:
            return
    for inner in content:
        yield from _with_inner_parts(inner)


@dataclass(frozen=True, slots=True)
class Place:
    """A field of a request, named in an error."""

    path: str
    """The core's name: `tools[0].name`, `messages[3].parts[1].tool_call.arguments`."""
    origin: str = ""
    """The origin of the innermost part that contains it, or else of the message."""
    rest: str = ""
    """The end of the path, from the kind of the part; empty for a part or a message itself."""


FieldNames: TypeAlias = Callable[[Place], str]
"""Maps a place to the name of the field in the caller's API."""


def neutral_name(place: Place) -> str:
    """Return the core's own name of a field."""
    return place.path


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the caller that the model may call."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=dict)
    """JSON Schema of the arguments; empty means an object without fields."""
    free_text: bool = False
    """Whether it takes one free text instead of arguments; then `parameters` is empty."""


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
    """The tool to call if mode is NAMED."""
    parallel: bool = True
    """Whether one answer may contain several calls."""
    allowed: tuple[str, ...] = ()
    """The tools on offer that may be called; empty means all."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and where the answer stops. None and empty mean the default."""

    temperature: float | None = None
    """0 to 1."""
    top_p: float | None = None
    """0 to 1."""
    stop: tuple[str, ...] = ()
    """Up to four texts that end the answer and are not part of it."""
    top_k: int | None = None
    """Only so many of the likeliest tokens are chosen from; at least 1."""


class OutputKind(StrEnum):
    """The kind of the answer's format."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The format of the answer, with its schema if it has one."""

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


# wide: one field per option of a request.
@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One completion, as requested by a caller."""

    messages: tuple[Message, ...]
    model: str | None = None
    """None: the operator's default model."""
    system: str | None = None
    """None: the server's default system prompt (`BRIDGE_SYSTEM_PROMPT`)."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    sampling: Sampling = Sampling()
    max_output_tokens: int | None = None
    output_format: OutputFormat = OutputFormat()
    effort: Effort | None = None
    thinking: bool | None = None
    """False turns thinking off, whatever the effort; None leaves it to the effort."""
    include_thinking: bool = False
    """Whether thinking is part of the answer that is sent."""
    include_signatures: bool = False
    """Whether the thinking that is sent is signed, so that it can be sent back."""
    thinking_by_default: bool = False
    """Whether the caller has not asked for it, so that it need not know if there is none."""
    include_cost: bool = False
    """Whether the end of the answer waits for its cost."""
    whole: bool = False
    """Whether the caller gets the answer in one piece, so that parts of it can be held back."""
    timeout: float | None = None
    """Seconds for the whole request; the server's own limit applies too, as for the next three."""
    queue_timeout: float | None = None
    """Seconds to wait for a process."""
    first_token_timeout: float | None = None
    """Seconds from there to the first part of the answer."""
    idle_timeout: float | None = None
    """Seconds between one part of the answer and the next."""
    marks_cut_calls: bool = False
    """Whether the API marks calls that were cut: then every other call must have a result."""
    conversing: bool = False
    """Whether the API holds the conversation open, so that it is likely to continue."""
    strict: bool = False
    """Whether a parameter without effect is an error."""
    ignored: tuple[str, ...] = ()
    """Parameters that the API accepted without effect, by the caller's own names."""
    repaired: tuple[str, ...] = ()
    """Fields that the model gets in another form, by the caller's own names: they have an effect,
    so a strict request may contain them."""
    request_id: str = ""
    """The server's own id of the request."""
    client_request_id: str = ""
    """The caller's own id of the request: used again soon, it never pays for a second answer."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The caller's own words for the operator, for the session log and the metrics."""
    caller: str = ""
    """The name of its API key; conversations are never shared between keys."""
    owner: str = ""
    """Who may attach to the answer or cancel it: the key, not another one of the same name."""
    api: str = ""
    """`http` or `grpc`, for the session log."""
    field_names: FieldNames = field(default=neutral_name, compare=False, repr=False)
    """How its API names the fields in errors."""

    @property
    def citations(self) -> bool:
        """Whether the answer is to cite what it is based on."""
        return any(
            isinstance(part, DocumentPart | SearchResultPart) and part.citations
            for message in self.messages
            for part in message.with_inner_parts()
        )
