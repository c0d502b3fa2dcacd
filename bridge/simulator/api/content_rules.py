"""What the API refuses in the content of messages. Pure: see rules.py for what a rule is."""

import base64
import binascii
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bridge.simulator.api.cache import content_blocks

Body = Mapping[str, Any]

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_BREAKPOINTS = 4


def first_message(body: Body) -> str | None:
    """The user starts: https://platform.claude.com/docs/en/api/messages (wording seen)."""
    if body["messages"][0]["role"] != "user":
        return 'messages: first message must use the "user" role'
    return None


def system_message_place(body: Body) -> str | None:
    """After a user message, and last or before an assistant's:
    https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages

    One that only sets the effort has its place anywhere after the first message:
    https://platform.claude.com/docs/en/build-with-claude/effort-per-message
    """
    messages = [m for m in body["messages"] if m["role"] != "system" or m["content"]]
    for before, message, after in zip(
        [None, *messages], messages, [*messages[1:], None], strict=False
    ):
        if message["role"] != "system":
            continue
        if before is None or before["role"] != "user":
            return "messages: role 'system' must immediately follow a user message"
        if after is not None and after["role"] != "assistant":
            return "messages: role 'system' must be last or be followed by an assistant message"
    return None


def content_present(body: Body) -> str | None:
    """No empty content: https://platform.claude.com/docs/en/api/errors (wordings seen).

    Stricter than what was seen lately, where an assistant's empty content passes anywhere.
    """
    last = len(body["messages"]) - 1
    for n, message in enumerate(body["messages"]):
        if message["content"] or message["role"] == "system":
            continue
        if message["role"] == "assistant" and n == last:
            continue
        if message["role"] == "user":
            return f"messages.{n}: user messages must have non-empty content"
        return (
            f"messages.{n}: all messages must have non-empty content except for the optional "
            "final assistant message"
        )
    return None


def text_present(body: Body) -> str | None:
    """No text block is empty; the texts of a message, or of a tool result, are not all blank.

    Seen, and tried out by others: a blank text beside one with words passes, beside a call not.
    https://platform.claude.com/docs/en/api/errors
    """
    contents = [("system", content_blocks(body.get("system") or []))]
    for message in body["messages"]:
        blocks = content_blocks(message["content"] or [])
        results = [block for block in blocks if block.get("type") == "tool_result"]
        inner = [content_blocks(block.get("content") or []) for block in results]
        contents += [("messages", content) for content in (blocks, *inner)]
    for place, blocks in contents:
        texts = [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
        if not all(texts):
            return f"{place}: text content blocks must be non-empty"
        if texts and not any(text.strip() for text in texts):
            return f"{place}: text content blocks must contain non-whitespace text"
    return None


def failed_results(body: Body) -> str | None:
    """A result that is an error has text, and nothing else (wordings seen):
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls
    """
    for where, _, block in placed_blocks(body):
        if block.get("type") != "tool_result" or not block.get("is_error"):
            continue
        if not block.get("content"):
            return f"{where}.tool_result: content cannot be empty if `is_error` is true"
        if any(inner.get("type") != "text" for inner in content_blocks(block["content"])):
            return f"{where}.tool_result: all content must be type `text` if `is_error` is true"
    return None


def prefill_end(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/api/messages (wording seen)."""
    blocks = content_blocks(body["messages"][-1]["content"])
    last = str(blocks[-1].get("text", "")) if blocks else ""
    if prefilled(body) and last != last.rstrip():
        return "messages: final assistant content cannot end with trailing whitespace"
    return None


def tool_ids(body: Body) -> str | None:
    """Ids are of the documented characters, and each call has its own (wordings seen):
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview
    """
    known: set[str] = set()
    for where, _, block in placed_blocks(body):
        kind = block.get("type")
        field = {"tool_use": "id", "tool_result": "tool_use_id"}.get(str(kind))
        if field is None:
            continue
        if not _ID.fullmatch(str(block.get(field, ""))):
            return f"{where}.{kind}.{field}: String should match pattern '^[a-zA-Z0-9_-]+$'"
        if kind == "tool_use":
            if block["id"] in known:
                return f"{where}: `tool_use` ids must be unique"
            known.add(block["id"])
    return None


def tool_results(body: Body) -> str | None:
    """Every call is answered in the next user message, and nothing else is (wordings seen):
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls
    """
    asked: list[str] = []
    asker = 0
    for role, turn in itertools.groupby(spoken(body), key=lambda item: item[1]["role"]):
        # Messages of one role in a row are one turn.
        messages = list(turn)
        blocks = [
            (f"messages.{n}.content.{i}", block)
            for n, message in messages
            for i, block in enumerate(content_blocks(message["content"]))
        ]
        results = [(where, b) for where, b in blocks if b.get("type") == "tool_result"]
        calls = [(where, b) for where, b in blocks if b.get("type") == "tool_use"]
        if role == "assistant":
            if results:
                return f"{results[0][0]}: `tool_result` blocks can only be in `user` messages"
            asked, asker = [block["id"] for _, block in calls], messages[-1][0]
            continue
        if calls:
            return f"{calls[0][0]}: `tool_use` blocks can only be in `assistant` messages"
        for where, block in results:
            if block["tool_use_id"] not in asked:
                return (
                    f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding "
                    "`tool_use` block in the previous message."
                )
        # What answers calls comes first: a result after another block does not count.
        answers = [block.get("tool_use_id") for _, block in blocks[: len(results)]]
        if unanswered := [call for call in asked if call not in answers]:
            return _unanswered(asker, unanswered)
        if len(results) != len(asked):
            return f"{results[-1][0]}: each `tool_use` must have a single `tool_result`"
        asked = []
    return _unanswered(asker, asked) if asked else None


def _unanswered(message: int, ids: Sequence[str]) -> str:
    return (
        f"messages.{message}: `tool_use` ids were found without `tool_result` blocks immediately "
        f"after: {', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` "
        "block in the next message."
    )


def image_types(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/vision (wording seen)."""
    for where, source in _images(body):
        if source.get("media_type") not in _MEDIA_TYPES:
            return (
                f"{where}.image.source.base64.media_type: Input should be "
                + ", ".join(f"'{kind}'" for kind in _MEDIA_TYPES[:-1])
                + f" or '{_MEDIA_TYPES[-1]}'"
            )
    return None


def image_bytes(body: Body) -> str | None:
    """The bytes are base64, and of the type that is declared (wordings seen):
    https://platform.claude.com/docs/en/build-with-claude/vision
    """
    for where, source in _images(body):
        try:
            data = base64.b64decode(str(source.get("data", "")), validate=True)
        except (binascii.Error, ValueError):
            return f"{where}.image.source.base64: invalid base64 data"
        declared, found = source.get("media_type"), _media_type(data)
        if found is not None and found != declared:
            return (
                f"{where}.image.source.base64: The image was specified using the {declared} media "
                f"type, but the image appears to be a {found} image"
            )
    return None


def _images(body: Body) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The base64 sources of images, those inside tool results too, each with its place."""
    for where, _, block in placed_blocks(body):
        inner = content_blocks(block.get("content")) if block.get("type") == "tool_result" else []
        places = [(f"{where}.tool_result.content.{n}", image) for n, image in enumerate(inner)]
        for place, image in ((where, block), *places):
            source = image.get("source")
            if image.get("type") != "image" or not isinstance(source, Mapping):
                continue
            if source.get("type") == "base64":
                yield place, source


def _media_type(data: bytes) -> str | None:
    """What an image is by its first bytes; None: no telling."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    signs = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif"}
    return next((kind for sign, kind in signs.items() if data.startswith(sign)), None)


def citations(body: Body) -> str | None:
    """On all documents or none, on all search results or none, and never with a format:
    https://platform.claude.com/docs/en/build-with-claude/citations
    https://platform.claude.com/docs/en/build-with-claude/search-results
    """
    cited: dict[str, set[bool]] = {"document": set(), "search_result": set()}
    for _, _, block in placed_blocks(body):
        inner = content_blocks(block.get("content")) if block.get("type") == "tool_result" else []
        for each in (block, *inner):
            if each.get("type") in cited:
                config = each.get("citations") or {}
                cited[each["type"]].add(bool(config.get("enabled")))
    for kind, found in cited.items():
        if len(found) > 1:
            return f"messages: citations must be enabled on all or none of the {kind} blocks"
    form = (body.get("output_config") or {}).get("format")
    if form and any(True in found for found in cited.values()):
        return "output_config.format: not supported with citations"
    return None


def cache_breakpoints(body: Body) -> str | None:
    """https://platform.claude.com/docs/en/build-with-claude/prompt-caching (wording seen)."""
    found = len(list(_breakpoints(body))) + bool(body.get("cache_control"))
    if found > _BREAKPOINTS:
        return f"A maximum of 4 blocks with cache_control may be provided. Found {found}."
    return None


def cache_order(body: Body) -> str | None:
    """Longer-lived entries come first (wording seen):
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching#1-hour-cache-duration
    """
    short = False
    marks = [*_breakpoints(body)]
    if body.get("cache_control"):
        marks.append(("cache_control", body["cache_control"]))
    for where, control in marks:
        hour = isinstance(control, Mapping) and control.get("ttl") == "1h"
        if hour and short:
            return (
                f"{where}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: "
                "`tools`, `system`, `messages`."
            )
        short = short or not hour
    return None


def _breakpoints(body: Body) -> Iterator[tuple[str, Any]]:
    """The cache_control of each block that has one, with its place, in the API's order."""
    everything = [
        *((f"tools.{n}", tool) for n, tool in enumerate(body.get("tools", []))),
        *((f"system.{n}", block) for n, block in enumerate(content_blocks(body.get("system")))),
        *((where, block) for where, _, block in placed_blocks(body)),
    ]
    for where, block in everything:
        if block.get("cache_control"):
            yield f"{where}.cache_control", block["cache_control"]


def placed_blocks(body: Body) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Each block of the messages: its place in the API's words, its message, itself."""
    for n, message in enumerate(body["messages"]):
        for i, block in enumerate(content_blocks(message["content"])):
            yield f"messages.{n}.content.{i}", message, block


def spoken(body: Body) -> list[tuple[int, Mapping[str, Any]]]:
    """The messages of user and assistant, with their places."""
    return [(n, m) for n, m in enumerate(body["messages"]) if m["role"] != "system"]


def prefilled(body: Body) -> bool:
    """Whether the conversation ends with an assistant message."""
    said = spoken(body)
    return bool(said) and said[-1][1]["role"] == "assistant"
