"""The environment of the checks: CLI processes that talk to a simulated model.

One process serves most checks and is emptied between them; if a check breaks it, it is replaced. A
second one simulates a user with settings of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bridge.core.claude import (
    ALL,
    Capabilities,
    ControlError,
    Launcher,
    ProcessGoneError,
    Profile,
    Session,
    Turn,
    TurnSettings,
    cut_off,
    hermetic_environment,
    read_user_settings,
)
from bridge.core.contract import Role
from bridge.core.system import OrphanGuard
from bridge.core.validation import BuiltinTools

if TYPE_CHECKING:
    from bridge.simulator import Exchange, Simulator

Wire: TypeAlias = dict[str, Any]

SETTLE_TIMEOUT = 20.0
"""Seconds that emptying the shared process may take; it usually takes a few hundredths of a
second."""

SYSTEM = "You help claude-code-bridge to find out what this Claude Code can do."

USER_TEXTS = ("SAID-BY-A-HOOK", "SAID-BY-CLAUDE-MD", "Klingon", "xplanatory")
"""Texts from the user's own settings that must not reach a conversation."""

USER_LIMIT = 3_210
"""The user's own output token limit, which must not apply."""

_HOOK = [{"hooks": [{"type": "command", "command": "echo SAID-BY-A-HOOK"}]}]
_USER_SETTINGS = {
    "model": "haiku",
    "language": "Klingon",
    "outputStyle": "Explanatory",
    "env": {
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(USER_LIMIT),
        "CLAUDE_CODE_EXTRA_BODY": json.dumps({"stop_sequences": ["Klingon"]}),
    },
    "hooks": {"UserPromptSubmit": _HOOK, "SessionStart": _HOOK},
}


class Lacking(Exception):
    """The CLI was observed to behave differently; the text describes it."""


class NoProcessError(Exception):
    """No process starts, so that nothing more can be tested."""


def require(holds: bool, otherwise: str) -> None:
    """Raise Lacking with the text unless `holds`."""
    if not holds:
        raise Lacking(otherwise)


def text(words: str) -> Wire:
    """Return a text block."""
    return {"type": "text", "text": words}


def user(*content: Wire | str) -> Turn:
    """Return a user turn."""
    return Turn(Role.USER, tuple(text(c) if isinstance(c, str) else c for c in content))


def assistant(*content: Wire | str) -> Turn:
    """Return an earlier answer."""
    return Turn(Role.ASSISTANT, tuple(text(c) if isinstance(c, str) else c for c in content))


def sim(**directive: Any) -> str:
    """Return a directive for the simulated model, to be put into a prompt."""
    return f"[[sim {json.dumps(directive)}]]"


PLAIN = sim()
"""A plain answer, which overrides earlier directives that should be gone and are not."""


def new_mark() -> str:
    """Return a text that identifies an exchange."""
    return f"mark-{uuid.uuid4().hex}"


def conversation(exchange: Exchange) -> list[tuple[str, list[Wire]]]:
    """Return the messages that reached the model, without the CLI's own and the cache marks."""
    return [
        (str(message["role"]), _blocks(message["content"]))
        for message in exchange.messages
        if message["role"] != "system"
    ]


def _blocks(content: str | Sequence[Wire]) -> list[Wire]:
    if isinstance(content, str):
        return [text(content)]
    return [{k: v for k, v in block.items() if k != "cache_control"} for block in content]


def wire_of(turns: Sequence[Turn]) -> list[tuple[str, list[Wire]]]:
    """Return turns in the form of `conversation`."""
    return [(str(turn.role), list(turn.content)) for turn in turns]


@dataclass(frozen=True, slots=True)
class Asked:
    """One turn: its prompt, the CLI's output, and its upstream calls."""

    turn: Turn
    lines: Sequence[Wire]
    exchanges: Sequence[Exchange]

    @property
    def exchange(self) -> Exchange:
        """The first call; raises Lacking if there is none."""
        require(bool(self.exchanges), "nothing reached the model")
        return self.exchanges[0]

    @property
    def result(self) -> Wire:
        """The last line: the turn's `result`, or the one that made its calls."""
        return self.lines[-1]

    def events(self, kind: str) -> list[Wire]:
        """Return the streamed events of one type."""
        events = [line["event"] for line in self.lines if line["type"] == "stream_event"]
        return [event for event in events if event["type"] == kind]

    @property
    def calls(self) -> list[str]:
        """The ids of the tool calls in the answer."""
        blocks = [event["content_block"] for event in self.events("content_block_start")]
        return [str(block["id"]) for block in blocks if block["type"] == "tool_use"]


class Stage:
    """Processes of one CLI, and the simulator that they talk to. `aclose` ends them."""

    def __init__(
        self, cli: Path, folder: Path, simulator: Simulator, guard: OrphanGuard | None = None
    ) -> None:
        """Keep all files in `folder`."""
        self.folder = folder
        self._guard = guard
        self.ledger = simulator.ledger
        self._cli = cli
        self._upstream = simulator.base_url
        self.launcher = self._launcher("warm", {})
        self._warm: Session | None = None
        self._user: Session | None = None
        self._user_turn: Asked | None = None
        self._failed_starts = 0
        self.capabilities = ALL
        """The processes that earlier checks left running."""
        self.ever_ran = False
        """Whether any process has ever answered."""
        self.cli_version = ""

    def _launcher(self, name: str, settings: Wire) -> Launcher:
        home, work = self.folder / name / "home", self.folder / name / "work"
        work.mkdir(parents=True)
        claude = home / ".claude"
        claude.mkdir(parents=True)
        if settings:
            (claude / "settings.json").write_text(json.dumps(settings))
            (claude / "CLAUDE.md").write_text("SAID-BY-CLAUDE-MD")
        environment = hermetic_environment(os.environ, home, self._upstream)
        return Launcher(
            self._cli,
            environment,
            work,
            user_settings=read_user_settings(environment),
            guard=self._guard,
        )

    # Processes

    async def warm(self) -> Session:
        """Return the process that most checks share: empty, with a system prompt, all defaults."""
        if self._warm is None:
            self._warm = await self._started(self.launcher, Profile(SYSTEM), self.capabilities)
        return self._warm

    async def settle(self) -> None:
        """Empty the shared process for the next check, or end it if that fails."""
        session = self._warm
        if session is None:
            return
        if self.capabilities.rewind:
            with contextlib.suppress(ControlError, ProcessGoneError, TimeoutError):
                async with asyncio.timeout(SETTLE_TIMEOUT):
                    await session.stop()
                    await session.offer(())
                    if session.alive and await session.reset():
                        await session.configure(TurnSettings())
                        return
        self._warm = None
        await session.close()

    async def discard(self) -> None:
        """End the processes: the next check gets new ones."""
        for session in (self._warm, self._user):
            if session is not None:
                await session.close()
        self._warm = self._user = self._user_turn = None

    @asynccontextmanager
    async def with_own_tools(self, *names: str) -> AsyncGenerator[Session, None]:
        """A process with some of Claude Code's own tools, for one check."""
        tools = BuiltinTools(self.launcher.folder, names)
        launcher = replace(self.launcher, builtin_tools=tools)
        session = await self._started(launcher, Profile(SYSTEM), self.capabilities)
        try:
            yield session
        finally:
            await session.close()

    @asynccontextmanager
    async def as_for_a_user(self) -> AsyncGenerator[Session, None]:
        """A process that does all that it does for a user, for one check."""
        launcher = replace(self.launcher, environment=cut_off(self.launcher.environment))
        session = await self._started(launcher, Profile(SYSTEM), self.capabilities)
        try:
            yield session
        finally:
            await session.close()

    async def user_blank(self) -> Session:
        """Return the process of the user with settings of their own, not yet initialised."""
        if self._user is None:
            folder = self.folder / f"own-{uuid.uuid4().hex}"
            launcher = self._launcher(folder.name, _USER_SETTINGS)
            self._user = await self._spawned(launcher)
        return self._user

    async def user_turn(self) -> Asked:
        """Return a turn of that process, with Claude Code's preset as the system prompt."""
        if self._user_turn is None:
            session = await self.user_blank()
            await self._initialised(session, Profile(None))
            self._user_turn = await self.ask(session)
        return self._user_turn

    async def _started(
        self, launcher: Launcher, profile: Profile, capabilities: Capabilities
    ) -> Session:
        session = await self._spawned(launcher, capabilities)
        try:
            await self._initialised(session, profile)
        except BaseException:
            await session.close()
            raise
        return session

    async def _spawned(self, launcher: Launcher, capabilities: Capabilities = ALL) -> Session:
        if self._failed_starts > 1:
            raise NoProcessError
        self._failed_starts += 1
        try:
            session = await Session.spawn(launcher, capabilities=capabilities)
        except ControlError:
            self.ever_ran = True
            raise
        self.ever_ran = True
        self._failed_starts -= 1
        return session

    async def _initialised(self, session: Session, profile: Profile) -> None:
        self._failed_starts += 1
        await session.initialise(profile)
        self._failed_starts = 0
        assert session.facts is not None
        self.cli_version = session.facts.version or self.cli_version

    async def aclose(self) -> None:
        """End every process."""
        await self.discard()

    # Turns

    async def ask(self, session: Session, *content: Wire | str, say: str = PLAIN) -> Asked:
        """Ask with `say` as the last words, and wait for the end of the turn or for its calls."""
        mark = new_mark()
        turn = user(*content, f"{mark} {say}")
        await session.ask(turn)
        lines = await self._until(session, _is_over)
        if lines[-1]["type"] == "result":
            await session.stop()
        return Asked(turn, lines, self.ledger.exchanges(containing=mark))

    async def until_text(self, session: Session, pieces: int = 1) -> list[Wire]:
        """Receive until the model has sent this many pieces of its answer."""
        left = pieces

        def enough(line: Wire) -> bool:
            nonlocal left
            require(line["type"] != "result", "the turn ended before its answer")
            if line["type"] == "stream_event" and line["event"]["type"] == "content_block_delta":
                left -= 1
            return left == 0

        return await self._until(session, enough)

    async def resume(self, session: Session, results: Sequence[Wire]) -> list[Wire]:
        """Send the results that a turn waits for, and wait for its end."""
        await session.resume(results)
        lines = await self._until(session, lambda line: line["type"] == "result")
        await session.stop()
        return lines

    async def _until(self, session: Session, enough: Callable[[Wire], bool]) -> list[Wire]:
        lines = [await session.receive()]
        while not enough(lines[-1]):
            lines.append(await session.receive())
        return lines


def _is_over(line: Wire) -> bool:
    """Whether a turn has ended, or waits for the results of its calls."""
    if line["type"] == "stream_event" and line["event"]["type"] == "message_delta":
        return bool(line["event"]["delta"].get("stop_reason") == "tool_use")
    return bool(line["type"] == "result")
