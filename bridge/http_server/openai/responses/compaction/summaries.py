"""Compacting a conversation: the model summarises it, and the summary comes back as an opaque item.

The item holds the summary itself, so that any server, at any time, can go on with it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from bridge.core.contract import InvalidRequestError, Message, TextPart
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.wire_items import (
    AdditionalToolsItem,
    CompactionItem,
    CompactionTriggerItem,
    ConfigurationItem,
    InputItem,
    MessageItem,
    OtherItem,
)

SUMMARISE: Final = """\
The conversation up to here is about to be replaced by a summary, which you write now. You will go \
on with the work from the user's messages and this summary alone: everything else is gone. \
Write down all that you need for that:
- what the user wants, with every requirement, decision, preference and correction;
- what was done and found out so far, and what each tool call changed or returned, as far as it \
still matters: names, paths, numbers, commands, code and error messages word for word;
- what is in progress, what remains to be done, and what comes next.
Answer with the summary and nothing else. Do not continue the work, do not call tools, and do not \
address the user."""
"""The user turn that asks for a summary."""

_SUMMARY: Final = """\
[The conversation before this point was compacted. This is the summary of it that you wrote:]

"""
_MARK: Final = "bridge-compaction-1."


def packed(summary: str) -> str:
    """Return a summary as the content of an item."""
    data = summary.encode("utf-8", "surrogatepass")
    return _MARK + base64.urlsafe_b64encode(data).decode("ascii")


def summary_of(content: str, where: str) -> str:
    """Return what an item's content says to the model; raises if it was made elsewhere."""
    try:
        if not content.startswith(_MARK):
            raise ValueError
        data = base64.b64decode(content.removeprefix(_MARK), altchars=b"-_", validate=True)
        return _SUMMARY + data.decode("utf-8", "surrogatepass")
    except (ValueError, binascii.Error) as error:
        # Without it, most of the conversation would be missing.
        raise InvalidRequestError(
            f"'{where}' was made by another server, or was changed, so it cannot be read. Send "
            "the conversation itself.",
            field=where,
        ) from error


def says_anything(messages: Sequence[Message]) -> bool:
    """Whether there is something to summarise, in messages that end in the request for it."""
    parts = [part for message in messages for part in message.parts][:-1]
    return any(not isinstance(part, TextPart) or part.text.strip() for part in parts)


_STAYING: Final = (AdditionalToolsItem, ConfigurationItem, OtherItem)
_Where = TypeVar("_Where")


def after_compaction(items: Iterable[tuple[InputItem, _Where]]) -> list[tuple[InputItem, _Where]]:
    """Leave out what the last compaction stands for: all before it but the callers' messages."""
    kept: list[tuple[InputItem, _Where]] = []
    for item, where in items:
        if isinstance(item, CompactionItem):
            kept = [each for each in kept if _stays(each[0])]
        kept.append((item, where))
    return kept


def _stays(item: InputItem) -> bool:
    if isinstance(item, MessageItem):
        return item.role != "assistant"
    return isinstance(item, _STAYING)


def callers_messages(items: Sequence[JsonDict]) -> list[JsonDict]:
    """Return the kept messages that stay beside a summary: all but the assistant's."""
    return [item for item in items if item["type"] == "message" and item["role"] != "assistant"]


def asks_to_compact(items: Sequence[InputItem]) -> bool:
    """Whether a request's items end in the one that asks for a summary."""
    return bool(items) and isinstance(items[-1], CompactionTriggerItem)
