"""What a log may contain about an error: its kind and its place, never its text.

The text of an exception can contain anything that passed through the code which raised it: part of
a prompt, an answer of another server. More people read logs than prompts.
"""

from __future__ import annotations

import logging
import sys
import traceback
from asyncio import AbstractEventLoop
from types import TracebackType
from typing import Any

from bridge.core.contract import BridgeError

logger = logging.getLogger(__name__)


def kind_of(error: BaseException) -> str:
    """Return an error in one line."""
    name = type(error).__name__
    if isinstance(error, BridgeError):
        return f"{name} ({error.reason})"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    # Texts written by the bridge itself, without anything that a caller sent.
    said = getattr(error, "for_log", "")
    return f"{name}: {said}" if said else name


def trace_of(error: BaseException | None) -> str:
    """Return an error and its causes with their stack frames, like a traceback without texts."""
    blocks: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        lines = [f"{kind_of(error)}, raised at (most recent call first):"]
        frames = traceback.extract_tb(error.__traceback__)
        lines += [f"  {f.filename}:{f.lineno} in {f.name}" for f in reversed(frames)]
        blocks.append("\n".join(lines))
        if isinstance(error, BaseExceptionGroup):
            blocks += [trace_of(inner) for inner in error.exceptions]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\ncaused by ".join(blocks)


class PrivateFormatter(logging.Formatter):
    """Formats records without the texts of exceptions, whichever module logs them."""

    def formatException(self, ei: Any) -> str:
        """Return the trace of an error."""
        return trace_of(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, ignoring text cached by other formatters."""
        record.exc_text = None
        return super().format(record)


def on_loop_error(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """The handler of an event loop: asyncio's own logs the text of the error."""
    error = context.get("exception")
    message = str(context.get("message", "")).partition("\n")[0]
    logger.error("%s%s", message, f"\n{trace_of(error)}" if error is not None else "")


def on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """`sys.unraisablehook`: the standard one prints the text of the error."""
    error: BaseException | None = unraisable.exc_value
    where: TracebackType | None = unraisable.exc_traceback
    if error is not None and error.__traceback__ is None:
        error = error.with_traceback(where)
    logger.error("an error was raised where it cannot be handled\n%s", trace_of(error))
