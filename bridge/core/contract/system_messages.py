"""The place of a system message in a conversation, the same for every API. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.core.contract.request import Message, Part, Role, TextPart


def system_part(texts: Iterable[str]) -> TextPart:
    """Return the texts of one system message as one part."""
    return TextPart("\n".join(texts), system=True)


def placed(
    system: str | None, messages: Iterable[Message]
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt and the conversation.

    In `messages` a system message is a user's message whose only part is a `system_part`. Those
    before all other messages are joined to the system prompt. Each later one keeps its place, in
    the user message beside it if there is one, unless it is blank.
    """
    prompt = [system] if system else []
    kept: list[Message] = []
    for message in messages:
        text = _system_text(message)
        if text is not None and not kept:
            prompt.append(text)
        elif text is None or text.strip():
            _add(kept, message)
    joined = "\n".join(prompt)
    return joined if joined.strip() else None, tuple(kept)


def _add(kept: list[Message], message: Message) -> None:
    last = kept[-1] if kept else None
    if last is None or last.role is not message.role or not (_mixed(last) or _mixed(message)):
        kept.append(message)
        return
    # The results of calls may stand on either side of a system message: they stay in one message.
    origin = message.origin if _system_text(last) is not None else last.origin
    kept[-1] = Message(last.role, (*last.parts, *message.parts), origin=origin)


def _system_text(message: Message) -> str | None:
    """Return the text of a message that has nothing but system texts; None for another."""
    if not message.parts or not all(map(_is_system, message.parts)):
        return None
    return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))


def _mixed(message: Message) -> bool:
    return message.role is Role.USER and any(map(_is_system, message.parts))


def _is_system(part: Part) -> bool:
    return isinstance(part, TextPart) and part.system
