"""Reads what the user types or pastes at the prompt: one message, of any number of lines."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import Output

PROMPT: Final = "> "


class LineEditor:
    """Enter sends, Alt-Enter adds a line, and pasted text stays one message until Enter.

    On a terminal without these features, each line is a message. Use as a context manager.
    """

    def __init__(self) -> None:
        self._session: PromptSession[str] | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        if os.environ.get("TERM", "dumb") not in ("dumb", "unknown", ""):
            # Answers may go to a file: only they may.
            shown = next((f for f in (sys.stdout, sys.stderr) if f.isatty()), None)
            if shown is not None:
                self._session = self._start(_output_to(shown))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def _start(self, output: Output) -> PromptSession[str]:
        from prompt_toolkit import PromptSession

        def leave() -> None:
            output.disable_bracketed_paste()
            output.flush()

        self._cleanup.callback(leave)
        return PromptSession(
            PROMPT, multiline=True, key_bindings=_bindings(), output=output, mouse_support=False
        )

    def read(self) -> str:
        """Wait for a message; raises EOFError at the end, and KeyboardInterrupt for Ctrl-C."""
        session = self._session
        if session is None:
            return _plain_line()
        try:
            return session.prompt()
        finally:
            # Text pasted during an answer is one message at the next prompt, too.
            session.output.enable_bracketed_paste()
            session.output.flush()


def _output_to(file: object) -> Output:
    from prompt_toolkit.output import create_output
    from prompt_toolkit.output.vt100 import Vt100_Output

    output = create_output(stdout=file)  # type: ignore[arg-type]
    if isinstance(output, Vt100_Output):
        # A terminal query that some terminals do not answer; its result is not needed.
        output.enable_cpr = False
    return output


def _bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    bindings = KeyBindings()

    @bindings.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _add_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def _plain_line() -> str:
    if sys.stdout.isatty():
        return input(PROMPT)
    sys.stderr.write(PROMPT)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
