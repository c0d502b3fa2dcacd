"""What the API takes of the results of tools. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.core.contract import InvalidRequestError, Message, TextPart, ToolResultPart


def check_failed_results(messages: Sequence[Message]) -> None:
    """Raise InvalidRequestError for the first failed result that is not text, or has none.

    https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls
    """
    for message in messages:
        for part in message.parts:
            if not isinstance(part, ToolResultPart) or not part.is_error:
                continue
            texts = [item.text for item in part.content if isinstance(item, TextPart)]
            if len(texts) < len(part.content) or not "".join(texts).strip():
                raise InvalidRequestError(
                    "The result of a tool call that failed must be text that says why.",
                    field=message.origin or "messages",
                )
