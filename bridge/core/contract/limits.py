"""The most that one request may have of everything.

Where the API says what it takes, that is the bound. The others are the bridge's own: far above
what anybody needs, far below what would hurt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1024 * 1024


# wide: a table, one row a bound.
@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one request may have of everything: a table, so it is long."""

    request_bytes: int = 32 * _MIB
    """Of the request as it comes, and of all that a conversation on one call holds. The API's own:
    https://platform.claude.com/docs/en/api/errors"""
    json_levels: int = 128
    """Arrays and objects within each other, in a body and in the arguments of a call."""
    json_values: int = 300_000
    """Values in a body: a small one of many empty arrays would take a hundred times its size, and
    everybody else's answers stand still while they are read, 10 microseconds each."""
    messages: int = 20_000
    """The API takes 100,000. To be given so many, Claude Code would need longer than a request may
    take (2 ms each), and everybody else's answers would stand still while they are read."""
    parts: int = 10_000
    """Of one message."""
    all_parts: int = 100_000
    """Of all messages together."""
    system_characters: int = 4_000_000
    """More than any model's context window holds."""
    tools: int = 1_000
    """As many as a process is told of in its life."""
    tools_characters: int = 4_000_000
    """Names, descriptions and schemas of all tools, as JSON text."""
    tools_subschemas: int = 10_000
    """Of all tools together."""
    schema_levels: int = 64
    schema_characters: int = 500_000
    """One schema, of a tool or of the answer, as JSON text."""
    schema_subschemas: int = 2_000
    """Objects and truth values in one schema, each of which takes half a millisecond to check."""
    schema_values: int = 10_000
    """All values in one schema, such as those of an `enum`."""
    schema_references: int = 500
    """In one schema."""
    schema_expanded: int = 10_000
    """Subschemas of one schema with its references followed: 20 that are doubled one after the
    other come to a million, and an answer is checked against each."""
    schema_pattern_characters: int = 1_000
    """One regular expression in a schema."""
    schema_text_characters: int = 50_000
    """One name or text in a schema."""
    images: int = 600
    """The API's own: https://platform.claude.com/docs/en/build-with-claude/vision"""
    image_characters: int = 10 * _MIB
    """One picture in base64. The API takes 5 MB; Claude Code makes larger ones smaller."""
    image_pixels: int = 8_000 * 8_000
    """Width times height: the API's own. To make it smaller, Claude Code unpacks the whole of a
    picture, at five bytes a pixel, and a file of 30 kB can hold a quarter of a billion."""
    documents: int = 100
    document_characters: int = 32 * _MIB
    """One document in base64. More would not fit into a request of the API."""
    name_characters: int = 256
    """The name of a tool that was called, of a model, of an output format."""
    id_characters: int = 512
    """The id of a tool call."""
    title_characters: int = 1_000
    """The name of a document's file."""
    stop_characters: int = 1_000
    """One stop text."""
    output_tokens: int = 2**31 - 1


BOUNDS: Final = Bounds()
"""Those of a server."""
