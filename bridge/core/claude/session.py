"""One warm CLI conversation: told what a request needs, asked, stopped, and wiped again.

A session is used by one task at a time. Whatever fails leaves it `broken`: it is closed then
and never used again, since nobody could say what its conversation holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

from bridge.core.claude.answer_reader import calls_builtin_tool
from bridge.core.claude.capabilities import ALL, Capabilities
from bridge.core.claude.client_tools import SERVER_NAME, ToolServer
from bridge.core.claude.control import (
    CONTROL_TIMEOUT,
    ControlError,
    ControlTimeoutError,
    ControlTransport,
)
from bridge.core.claude.launch import Launcher
from bridge.core.claude.process import ProcessGoneError
from bridge.core.claude.tool_definitions import tools_as_told
from bridge.core.claude.turn_settings import Profile, TurnSettings, setting_changes, traced
from bridge.core.claude.turns import Turn, UserLine, replay_lines, user_line
from bridge.core.claude.wire import TOOL_PREFIX, Wire
from bridge.core.contract import Tool
from bridge.core.telemetry import kind_of

if TYPE_CHECKING:
    from bridge.core.engine import Deadlines

logger = logging.getLogger(__name__)

BOOT_TIMEOUT = 60.0
"""Seconds a process may take to start; about one on an idle machine."""

STOP_TIMEOUT = 20.0
"""Seconds a turn may take to end once it was interrupted."""

MAX_TOOLS_TOLD = 1_000
"""Names of tools that a process is told of in its life; the CLI takes 2,048 to withdraw."""

_HIGH_WATER = 2_000
_LOW_WATER = 500


@dataclass(frozen=True, slots=True)
class Facts:
    """What an initialised CLI tells about itself."""

    version: str
    account: dict[str, Any]
    models: tuple[dict[str, Any], ...]


class Session:
    """A CLI process with at most one profile and at most one conversation."""

    def __init__(self, capabilities: Capabilities, cache_control: Wire | None = None) -> None:
        """Mark the first question of a conversation with `cache_control`."""
        self._abilities = capabilities
        self._cache_control = cache_control
        self.started_with: TurnSettings | None = None
        """Settings that the process was started with, where this CLI takes some only then."""
        self._arrived = asyncio.Event()
        self._tools = ToolServer(self._arrived.set)
        self._told = ""
        self._offering = False
        self._ever_offered: set[str] = set()
        self._transport = ControlTransport(self._on_message)
        self._client: ClaudeSDKClient | None = None
        self._inbox: deque[Wire] = deque()
        self._gone = False
        self._failed = False
        self._paused = False
        self._listening = False
        self._deadlines: Deadlines | None = None
        self._time = asyncio.get_running_loop().time
        self.heard_at = self._time()
        """When a line of the conversation last came."""
        self._applied: TurnSettings | None = None
        self._default_model: str | None = None
        self._lines: list[UserLine] = []
        self._open_turns = 0
        self._last_result: Wire = {}
        self._asked = False
        self._used_builtin_tool = False
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        self._asked_at = 0.0
        self.on_usage_limits: Callable[[Wire, float], None] = lambda line, asked_at: None
        """Called with what the CLI tells of the plan, a `rate_limit_event`, and when the turn that
        it came with was asked, in the time of the running loop. It comes after the answer."""
        self.on_gone: Callable[[], None] = lambda: None
        """Called when the process has ended by itself."""
        self.profile: Profile | None = None
        """What it was initialised with; None while it is blank."""
        self.broken = False
        """Whether it must not be used any more."""
        self.answers = 0
        """Turns asked of it so far."""
        self.facts: Facts | None = None
        """What the CLI told at `initialise`."""

    @classmethod
    async def spawn(
        cls,
        launcher: Launcher,
        *,
        capabilities: Capabilities = ALL,
        settings: TurnSettings | None = None,
    ) -> Session:
        """Start a process and wait until it is booted: a blank session.

        Raises OSError where it cannot be started, and ControlError or ProcessGoneError where
        it does not come up.
        """
        session = cls(capabilities, launcher.cache_control)
        session.started_with = settings
        launcher.restore_folder()
        await session._transport.spawn(launcher.command(settings))
        try:
            session._default_model = await session._transport.boot(BOOT_TIMEOUT)
            await session.configure(TurnSettings())
        except BaseException:
            await session.close()
            raise
        return session

    @property
    def pid(self) -> int:
        """The process id."""
        return self._transport.process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return not self.broken and not self._closed and self._transport.is_ready()

    @property
    def gone(self) -> bool:
        """Whether the process has ended by itself."""
        return self._gone

    @property
    def worn(self) -> bool:
        """Whether it has been told of so many tools that it is time for a new process."""
        return len(self._ever_offered) > MAX_TOOLS_TOLD

    @property
    def stderr_tail(self) -> str:
        """The process's last words, for the log."""
        return self._transport.process.stderr_tail

    @property
    def failed(self) -> bool:
        """Whether its process ended by itself, or is of no use any more through its own fault."""
        return self._failed or (self._gone and not self._closed)

    async def answers_within(self, seconds: float) -> bool:
        """Whether the process still answers; a question that leaves nothing in the conversation."""
        if self._paused or not self.alive:
            # What it says is not read now, or it is known to be of no use.
            return True
        asked_at = self._time()
        try:
            await self._transport.answers(seconds)
        except ControlTimeoutError:
            # Its answer may stand behind much that was said before it.
            return bool(self._inbox) or self.heard_at > asked_at
        except (ControlError, ProcessGoneError):
            pass
        return True

    def kill(self) -> None:
        """End the process now: for whoever uses it, it has ended by itself."""
        self._failed = True
        self._transport.process.kill()

    async def initialise(self, profile: Profile) -> None:
        """Give a blank its profile."""
        self._transport.on_initialize(
            system_prompt=profile.system_prompt,
            instruction=profile.instruction,
            json_schema=profile.json_schema,
        )
        options = ClaudeAgentOptions(
            mcp_servers={
                SERVER_NAME: {"type": "sdk", "name": SERVER_NAME, "instance": self._tools.server}
            }
        )
        client = ClaudeSDKClient(options, transport=self._transport)
        self._client = client
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT):
                await client.connect()
        except BaseException as error:
            # Its system prompt may hold already, cancelled or not.
            self.broken = True
            if not isinstance(error, Exception):
                raise
            self._failed = True
            if not self._transport.is_ready():
                raise ProcessGoneError from error
            raise ControlError("initialize failed", str(error)) from error
        info = await client.get_server_info() or {}
        self.facts = Facts(
            version=str(info.get("claude_code_version", "")),
            account=dict(info.get("account") or {}),
            models=tuple(info.get("models") or ()),
        )
        self.profile = profile

    async def configure(self, settings: TurnSettings, trace_parent: str = "") -> None:
        """Apply the settings of the next turn; says only what differs.

        With a `trace_parent` the CLI's own spans of the turn belong to that trace.
        """
        settings = replace(settings, model=settings.model or self._default_model)
        late = self._abilities.late_settings
        changes = setting_changes(self._applied, settings, late)
        if trace_parent:
            changes = traced(changes, settings, late, trace_parent)
        if not changes:
            return
        # Until the answer is there nobody knows what holds.
        self._applied = None
        await self._transport.apply_settings(changes)
        self._applied = settings

    async def offer(self, tools: Sequence[Tool]) -> None:
        """Offer exactly these tools in the turns to come."""
        told = tools_as_told(tools)
        if told == self._told and self._offering == bool(tools):
            return
        try:
            if self._offering:
                # The CLI lists a server's tools when it is added, and only then.
                await self._transport.set_tool_servers(())
                self._offering = False
            self._tools.offer(tools)
            if tools:
                self._offering = True
                names = {TOOL_PREFIX + tool.name for tool in tools}
                withdrawn = sorted(self._ever_offered - names)
                self._ever_offered |= names
                await self._transport.set_tool_servers((SERVER_NAME,), without=withdrawn)
                async with asyncio.timeout(STOP_TIMEOUT):
                    await self._until(lambda: self._tools.listed)
            self._told = told
        except BaseException as error:
            # Nobody can say now what the CLI offers.
            self.broken = True
            if isinstance(error, TimeoutError):
                raise ControlError("the CLI did not list the tools") from error
            raise

    async def replay(self, turns: Sequence[Turn]) -> None:
        """Put earlier turns into the empty conversation, as real turns."""
        for line in replay_lines(turns):
            if isinstance(line, UserLine):
                await self._send(line)
                # An assistant turn that overtakes the user turn before it would stand first.
                try:
                    async with asyncio.timeout(CONTROL_TIMEOUT):
                        await self._await_results()
                except TimeoutError as error:
                    raise ControlTimeoutError("a replayed turn was not confirmed") from error
            else:
                await self._transport.send(line)

    async def ask(self, turn: Turn, deadlines: Deadlines | None = None) -> None:
        """Send the turn that the model is to answer; its lines come from `receive`."""
        # The API takes four cache breakpoints a request and the CLI sets three. One set in a
        # user line stays there for the life of the conversation, so only one line has it.
        mark = None if self._asked else self._cache_control
        self._asked = True
        self._listen(deadlines)
        await self._send(user_line(turn, query=True, cache_control=mark))

    async def resume(self, results: Sequence[Wire], deadlines: Deadlines | None = None) -> None:
        """Give the turn that waits its tool results; it goes on where it stopped."""
        if not self._tools.waits_for(result["tool_use_id"] for result in results):
            self.broken = True
            raise ControlError("the calls do not wait any more")
        self._listen(deadlines)
        self._tools.answer(results)

    async def park(self, calls: Sequence[str]) -> None:
        """Let the conversation stand for its next message.

        Waits for the end of the turn, or, where it made calls, until all of them have come in.
        Raises ControlError where the turn did not end well.
        """
        self._stop_listening()
        async with asyncio.timeout(STOP_TIMEOUT):
            if calls:
                await self._until(lambda: self._tools.waits_for(calls) or not self._open_turns)
                if not self._open_turns:
                    raise ControlError("the turn went on without its results")
                return
            await self._await_results()
        if self._last_result.get("is_error"):
            raise ControlError("the turn ended in an error after its answer")

    async def turn_over(self) -> None:
        """Wait for the end of the turn, after which the CLI has said all that came with it."""
        self._stop_listening()
        async with asyncio.timeout(STOP_TIMEOUT):
            await self._await_results()

    async def receive(self) -> Wire:
        """The next line of the conversation.

        Raises TimeoutError when the deadlines is over, and ProcessGoneError when the process ended.
        """
        # The limits hold though there is always more, as with a slow reader.
        deadlines = self._deadlines
        while (over := deadlines is not None and deadlines.over is not None) or not self._inbox:
            if over:
                raise TimeoutError
            self._check_alive()
            self._arrived.clear()
            await self._arrived.wait()
        message = self._inbox.popleft()
        if self._paused and len(self._inbox) <= _LOW_WATER:
            self._resume()
        return message

    async def stop(self) -> None:
        """Interrupt what still runs and wait until nothing does."""
        self._stop_listening()
        async with asyncio.timeout(STOP_TIMEOUT):
            while self._open_turns > 0:
                self._arrived.clear()
                if not await self._transport.interrupt():
                    await self._await_results()
                    return
                # The CLI has not begun with the line yet: an interrupt goes past it. It says
                # something when it does.
                self._check_alive()
                await self._arrived.wait()

    async def reset(self) -> bool:
        """Wipe the conversation; False if it could not be verified that nothing is left."""
        if self._used_builtin_tool:
            # Claude Code remembers where its shell stands and what it read, however it is wiped.
            self.broken = True
            return False
        try:
            while self._lines and self._abilities.rewind:
                line = self._lines[-1]
                if line.rewindable:
                    if not await self._transport.rewind(line.id):
                        break
                elif len(self._lines) == 1:
                    # Tool results are taken back with the turn they answer: here is none.
                    break
                self._lines.pop()
        except (ControlError, ProcessGoneError) as error:
            logger.info("session %s could not be reset: %s", self.pid, kind_of(error))
        self._asked = False
        if self._lines or self._open_turns:
            self.broken = True
        return not self.broken

    async def close(self, *, hard: bool = False) -> None:
        """End the process, and wait for that. Whoever is cancelled here does not stop it.

        It may tidy up itself, which is soon done; not in the middle of a turn, nor where `hard`.
        """
        if self._closing is None:
            hard = hard or self._failed or self._open_turns > 0
            self._closing = asyncio.ensure_future(self._close(hard=hard))
        await asyncio.shield(self._closing)

    async def _close(self, *, hard: bool) -> None:
        self._closed = True
        self.broken = True
        self._stop_listening()
        # First the process, then the client: so that its clean-up has nothing to wait for.
        await self._transport.close(hard=hard)
        if self._client is not None:
            with contextlib.suppress(Exception):
                await self._client.disconnect()

    async def _send(self, line: UserLine) -> None:
        self._lines.append(line)
        self._open_turns += 1
        await self._transport.send(line.wire)

    async def _await_results(self) -> None:
        await self._until(lambda: self._open_turns <= 0)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._check_alive()
            self._arrived.clear()
            await self._arrived.wait()

    def _listen(self, deadlines: Deadlines | None) -> None:
        self.answers += 1
        self._asked_at = asyncio.get_running_loop().time()
        self._listening = True
        self.heard_at = self._time()
        self._deadlines = deadlines
        if deadlines is not None:
            deadlines.watch(lambda: self.heard_at, lambda: bool(self._inbox), self._arrived.set)

    def _check_alive(self) -> None:
        if self._gone:
            self.broken = True
            raise ProcessGoneError

    def _stop_listening(self) -> None:
        self._listening = False
        self._inbox.clear()
        self._resume()
        self._deadlines = None

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            # What was said in the meantime is heard only now.
            self.heard_at = self._time()
            self._transport.process.resume_reading()

    def _on_message(self, message: Wire | None) -> None:
        if message is None:
            self._gone = True
            if not self._closed:
                self.on_gone()
        else:
            self.heard_at = self._time()
            if message["type"] == "result":
                if self._open_turns <= 0:
                    # From now on nobody could say which turn a line belongs to.
                    logger.error("process %s ended a turn that was not asked for", self.pid)
                    self.kill()
                self._open_turns -= 1
                self._last_result = message
            elif message["type"] == "rate_limit_event":
                self.on_usage_limits(message, self._asked_at)
            elif calls_builtin_tool(message):
                self._used_builtin_tool = True
            if self._listening:
                self._inbox.append(message)
                if len(self._inbox) > _HIGH_WATER and not self._paused:
                    # Nobody takes them: the rest of the answer waits in the pipe, not here.
                    self._paused = True
                    self._transport.process.pause_reading()
        self._arrived.set()
