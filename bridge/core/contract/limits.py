"""The maximum size of everything in one request.

Where the API documents a limit, that is used. The others are the bridge's own: far above any need,
far below any harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1024 * 1024


# wide: a table, one row per bound.
@dataclass(frozen=True, slots=True)
class Bounds:
    """The maximum size of everything in one request: a table, so it is long."""

    request_bytes: int = 32 * _MIB
    """Of the received request, and of all that a conversation on one call contains. The API's own:
    https://platform.claude.com/docs/en/api/errors"""
    json_levels: int = 128
    """Nesting of arrays and objects, in a body and in the arguments of a call."""
    json_values: int = 300_000
    """Values in a body: a small one with many empty arrays would take a hundred times its size in
    memory, and parsing blocks all other answers, 10 microseconds per value."""
    messages: int = 10_000
    """The API accepts 100,000. Claude Code would need longer to read so many than a first token may
    take (2 ms each), and all other answers would be blocked meanwhile."""
    parts: int = 10_000
    """Per message."""
    all_parts: int = 100_000
    """Of all messages together."""
    system_characters: int = 4_000_000
    """More than any model's context window."""
    tools: int = 1_000
    """As many as a process is given in its life."""
    tools_characters: int = 4_000_000
    """Names, descriptions and schemas of all tools, as JSON text."""
    tools_subschemas: int = 10_000
    """Of all tools together."""
    schema_levels: int = 64
    schema_characters: int = 500_000
    """One schema, of a tool or of the answer, as JSON text."""
    schema_subschemas: int = 2_000
    """Objects and booleans in one schema, each of which takes half a millisecond to check."""
    schema_values: int = 10_000
    """All values in one schema, such as those of an `enum`."""
    schema_references: int = 500
    """Per schema."""
    schema_expanded: int = 10_000
    """Subschemas of one schema with its references followed: 20 successive doublings make a
    million, and an answer is checked against each."""
    schema_pattern_characters: int = 1_000
    """One regular expression in a schema."""
    schema_text_characters: int = 50_000
    """One name or text in a schema."""
    images: int = 600
    """The API's own: https://platform.claude.com/docs/en/build-with-claude/vision"""
    image_characters: int = 10 * _MIB
    """One image in base64. The API accepts 5 MB; Claude Code scales larger ones down."""
    image_pixels: int = 8_000 * 8_000
    """Width times height: the API's own. To scale an image down, Claude Code decodes all of it, at
    five bytes per pixel, and a file of 30 kB can contain a quarter of a billion pixels."""
    documents: int = 100
    document_characters: int = 32 * _MIB
    """One document in base64. More would not fit into a request of the API."""
    name_characters: int = 256
    """The name of a called tool, of a model, of an output format."""
    id_characters: int = 512
    """The id of a tool call."""
    title_characters: int = 1_000
    """The name of a document's file."""
    stop_characters: int = 1_000
    """One stop text."""
    output_tokens: int = 2**31 - 1
    labels: int = 16
    """These three are those of OpenAI's `metadata`."""
    label_name_characters: int = 64
    label_value_characters: int = 512


BOUNDS: Final = Bounds()
"""The default bounds of a server."""
