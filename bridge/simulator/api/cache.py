"""The prompt cache, by prefix, as the API documents it.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching: the prefix consists of tools,
system, messages, in this order; each `cache_control` writes one entry, at most four; a breakpoint
finds an older entry within 20 blocks, including its own; a prefix below a minimum length is
silently not cached. Each model has a separate cache. A change of tool choice, of thinking, or of
whether there are images invalidates the entries of the messages, but not those of tools and system.
A changed `output_config.format` invalidates all:
https://platform.claude.com/docs/en/build-with-claude/structured-outputs

The CLI's attribution line, a system block that differs between conversations, is assumed not to be
part of the prompt; this is not documented. Entries do not expire here (on the API after 5 minutes
or an hour); the least recently used are dropped.
"""

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LOOK_BACK = 20
# The tokens of an image or a document here, whatever its size.
_MEDIA_CHARS = 6000
_MEDIA = ("image", "document")
_ATTRIBUTION = "x-anthropic-billing-header:"


@dataclass(frozen=True, slots=True)
class Account:
    """How the input tokens of one request are divided."""

    read: int
    creation: int
    uncached: int
    one_hour: bool = False

    @property
    def total(self) -> int:
        """All input tokens."""
        return self.read + self.creation + self.uncached

    def usage(self) -> dict[str, Any]:
        """The input side of the API's `usage`."""
        return {
            "input_tokens": self.uncached,
            "cache_creation_input_tokens": self.creation,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 0 if self.one_hour else self.creation,
                "ephemeral_1h_input_tokens": self.creation if self.one_hour else 0,
            },
            "service_tier": "standard",
            "inference_geo": "global",
        }


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the prompt, with the prefix that ends with it."""

    prefix: bytes
    tokens: int
    cache_control: Mapping[str, Any] | None


class PromptCache:
    """The known entries, at most `keep` of them."""

    def __init__(self, *, minimum_tokens: int = 1024, keep: int = 4096) -> None:
        self._minimum = minimum_tokens
        self._keep = keep
        self._entries: OrderedDict[bytes, None] = OrderedDict()

    def account(self, body: Mapping[str, Any]) -> Account:
        """Account for a request: find the longest known prefix, and store its own."""
        blocks = prefixes(body)
        marked = [n for n, block in enumerate(blocks) if block.cache_control is not None]
        if body.get("cache_control") and blocks:
            # Automatic caching: a top-level cache_control marks the last block.
            marked = sorted({*marked, len(blocks) - 1})
        marked = [n for n in marked if blocks[n].tokens >= self._minimum]
        read = max((self._known(blocks, n) for n in marked), default=0)
        for n in marked:
            self._entries[blocks[n].prefix] = None
            self._entries.move_to_end(blocks[n].prefix)
        while len(self._entries) > self._keep:
            self._entries.popitem(last=False)
        total = blocks[-1].tokens if blocks else 0
        cached = blocks[marked[-1]].tokens if marked else 0
        control = (blocks[marked[-1]].cache_control or body.get("cache_control")) if marked else {}
        one_hour = isinstance(control, Mapping) and control.get("ttl") == "1h"
        return Account(read, max(0, cached - read), total - max(cached, read), one_hour)

    def _known(self, blocks: list[Block], breakpoint_: int) -> int:
        """Return the tokens of the longest entry that this breakpoint finds."""
        for n in range(breakpoint_, max(-1, breakpoint_ - LOOK_BACK), -1):
            if blocks[n].prefix in self._entries:
                self._entries.move_to_end(blocks[n].prefix)
                return blocks[n].tokens
        return 0


def prefixes(body: Mapping[str, Any]) -> list[Block]:
    """Return the blocks of a request in cache order, each with the hash and tokens of its
    prefix."""
    output_config = body.get("output_config")
    form = output_config.get("format") if isinstance(output_config, Mapping) else None
    state = hashlib.blake2b(_canonical([body.get("model"), form]), digest_size=16)
    blocks: list[Block] = []
    chars = 0
    in_messages = False
    for place, block in _blocks(body):
        if place not in ("tools", "system") and not in_messages:
            in_messages = True
            state.update(_canonical([body.get("tool_choice"), body.get("thinking"), _media(body)]))
        bare = {key: value for key, value in block.items() if key != "cache_control"}
        canonical = _canonical([place, bare])
        state.update(canonical)
        chars += _chars(bare, canonical)
        control = block.get("cache_control")
        blocks.append(Block(state.digest(), math.ceil(chars / 4), control))
    return blocks


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for tool in body.get("tools") or []:
        yield "tools", tool
    for block in content_blocks(body.get("system")):
        if not str(block.get("text")).startswith(_ATTRIBUTION):
            yield "system", block
    for n, message in enumerate(body.get("messages") or []):
        for block in content_blocks(message.get("content")):
            yield f"{n} {message.get('role')}", block


def content_blocks(content: object) -> list[Mapping[str, Any]]:
    """Return a content field as blocks: a string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, Mapping)]


def _media(body: Mapping[str, Any]) -> bool:
    return any(block.get("type") == "image" for _, block in _blocks(body))


def _chars(block: Mapping[str, Any], canonical: bytes) -> int:
    if block.get("type") == "text":
        return len(str(block.get("text")))
    return _MEDIA_CHARS if block.get("type") in _MEDIA else len(canonical)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
