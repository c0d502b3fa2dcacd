"""One warm CLI conversation: configured, asked, stopped, and wiped again.

A session is used by one task at a time. Any failure leaves it broken: it is then closed and never
used again, since the state of its conversation is unknown.
"""

# long: one class, whose methods all move one state to the next.
from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto

from bridge.core.claude.capabilities import ALL, Capabilities, Facts
from bridge.core.claude.client_tools import ToolServer
from bridge.core.claude.control import (
    CONTROL_TIMEOUT,
    ControlError,
    ControlTimeoutError,
    ControlTransport,
)
from bridge.core.claude.inbox import Inbox
from bridge.core.claude.lines import Conversation, UserLine
from bridge.core.claude.processes import Launcher, ProcessGoneError, start_cause
from bridge.core.claude.reading import (
    Spent,
    calls_builtin_tool,
    spent_in,
    spent_in_report,
)
from bridge.core.claude.sdk_client import SdkClient
from bridge.core.claude.turn_settings import AppliedSettings, Profile, TurnSettings
from bridge.core.claude.turns import Turn
from bridge.core.claude.usage_limits import usage_limits_in_report
from bridge.core.claude.wire import Wire
from bridge.core.contract import Cost, Tool, UsageLimits
from bridge.core.telemetry import kind_of

logger = logging.getLogger(__name__)

BOOT_TIMEOUT = 60.0
"""Seconds a process may take to start; about one on an idle machine."""

STOP_TIMEOUT = 20.0
"""Seconds a turn may take to end after an interrupt."""


class _State(Enum):
    READY = auto()
    BROKEN = auto()
    """Its conversation or its settings are unknown: it must not be used any more."""
    FAILED = auto()
    """The same, caused by the process."""


class Session:
    """A CLI process with at most one profile and at most one conversation."""

    def __init__(
        self,
        capabilities: Capabilities,
        cache_control: Wire | None = None,
        tool_prefix: str = "",
    ) -> None:
        self._capabilities = capabilities
        self._arrived = asyncio.Event()
        self._transport = ControlTransport(self._on_message)
        self._tools = ToolServer(self._arrived.set, tool_prefix)
        self._client = SdkClient(self._transport, self._tools)
        self._conversation = Conversation(cache_control)
        self.inbox = Inbox(self._transport, asyncio.get_running_loop().time, self._arrived.set)
        """The unread lines of the answer."""
        self._settings = AppliedSettings()
        self._state = _State.READY
        self._closing: asyncio.Future[None] | None = None
        self.on_usage_limits: Callable[[Wire, float], None] = lambda line, asked_at: None
        """Called with a `rate_limit_event` of the CLI and the time when its turn was sent, in the
        time of the running loop. It arrives after the answer."""
        self.on_gone: Callable[[], None] = lambda: None
        """Called when the process has ended by itself."""
        self.profile: Profile | None = None
        """The profile it was initialised with; None while it is blank."""
        self.answers = 0
        """Turns sent to it so far."""
        self.facts: Facts | None = None
        """The CLI's report at `initialise`."""

    @classmethod
    async def spawn(
        cls,
        launcher: Launcher,
        *,
        capabilities: Capabilities = ALL,
    ) -> Session:
        """Start a process and wait until it is booted: a blank session.

        Raises OSError, ControlError or ProcessGoneError if it does not start.
        """
        session = cls(capabilities, launcher.cache_control, launcher.tool_prefix)
        launcher.restore_folder()
        await session._transport.spawn(launcher.command())
        try:
            session._settings.default_model = await session._transport.boot(BOOT_TIMEOUT)
            await session.configure(TurnSettings())
        except BaseException as error:
            if isinstance(error, ProcessGoneError):
                session._explain(error)
            await session.close()
            raise
        return session

    def _explain(self, error: ProcessGoneError) -> None:
        """Add why it did not start, from its last output."""
        errors = self._conversation.last_result.get("errors") or ()
        cause = start_cause(" ".join((*map(str, errors), self.stderr_tail)))
        error.cause, error.for_log = cause.sentence, cause.for_log

    @property
    def pid(self) -> int:
        """The process id."""
        return self._transport.process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return not self.broken and self._transport.is_ready()

    @property
    def broken(self) -> bool:
        """Whether it must not be used any more."""
        return self._state is not _State.READY or self._closing is not None

    @property
    def gone(self) -> bool:
        """Whether the process has ended and all of its output was read."""
        return self._transport.process.exited.is_set()

    @property
    def spent_usd(self) -> float | None:
        """Claude Code's own estimate for the turns that have ended; None before the first one."""
        spent = self._conversation.last_result.get("total_cost_usd")
        return float(spent) if isinstance(spent, int | float) else None

    @property
    def failed(self) -> bool:
        """Whether its process ended by itself, or became unusable through its own fault."""
        return self._state is _State.FAILED or (self.gone and self._closing is None)

    @property
    def out_of_tool_names(self) -> bool:
        """Whether it was given so many tool names that it must be replaced."""
        return self._tools.full

    @property
    def stderr_tail(self) -> str:
        """The last lines of the process on stderr, for the log."""
        return self._transport.process.stderr_tail

    async def answers_within(self, seconds: float) -> bool:
        """Whether the process still answers; the check leaves nothing in the conversation."""
        if self.inbox.paused or not self.alive:
            # Its output is not being read, or it is known to be broken.
            return True
        asked_at = asyncio.get_running_loop().time()
        try:
            await self._transport.answers(seconds)
        except ControlTimeoutError:
            # Its answer may be queued behind much earlier output.
            return bool(self.inbox) or self.inbox.last_line_at > asked_at
        except (ControlError, ProcessGoneError):
            pass
        return True

    def mark_broken(self) -> None:
        """Mark it as unusable: its conversation or its settings are unknown."""
        if self._state is _State.READY:
            self._state = _State.BROKEN

    def kill(self) -> None:
        """Kill the process; its user sees a process that has ended by itself."""
        self._state = _State.FAILED
        self._transport.process.kill()

    async def initialise(self, profile: Profile) -> None:
        """Initialise a blank session with its profile."""
        self._transport.on_initialize(
            system_prompt=profile.system_prompt,
            instruction=profile.instruction,
            json_schema=profile.json_schema,
        )
        try:
            self.facts = await self._client.connect()
        except BaseException as error:
            # Its system prompt may already be set, cancelled or not.
            self._state = _State.FAILED if isinstance(error, Exception) else _State.BROKEN
            raise
        self.profile = profile

    async def configure(self, settings: TurnSettings, trace_parent: str = "") -> None:
        """Apply the settings of the next turn; `trace_parent` is for the CLI's own spans."""
        with self._settings.changing(settings, trace_parent) as changes:
            if changes:
                await self._transport.apply_settings(changes)

    async def offer(self, tools: Sequence[Tool]) -> None:
        """Offer exactly these tools in later turns."""
        if self._tools.offers(tools):
            return
        try:
            await self._client.offer(tools)
            if tools:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await self._until(lambda: self._tools.listed)
        except BaseException as error:
            # The tools that the CLI offers are now unknown.
            self.mark_broken()
            if isinstance(error, TimeoutError):
                raise ControlError("the CLI did not list the tools") from error
            raise

    async def replay(self, turns: Sequence[Turn], model: str = "") -> None:
        """Add earlier turns to the empty conversation, as real turns.

        `model` is the full name of the model that is asked next: the CLI keeps the thinking of no
        other one.
        """
        for line in self._conversation.history(turns, model):
            if isinstance(line, UserLine):
                await self._send(line)
                # If an assistant turn overtook the user turn before it, it would come first.
                try:
                    async with asyncio.timeout(CONTROL_TIMEOUT):
                        await self._until(self._conversation.settled)
                except TimeoutError as error:
                    raise ControlTimeoutError("a replayed turn was not confirmed") from error
            else:
                await self._transport.send(line)

    async def count_tokens(self, turns: Sequence[Turn], model: str = "") -> int:
        """Add turns to the empty conversation and estimate its input tokens.

        The system prompt counts too, the tools on offer do not.
        """
        await self.replay(turns, model)
        return await self._transport.context_tokens()

    async def login_accepted(self) -> bool:
        """Ask the API whether it accepts the login, at no charge; needs an empty conversation."""
        return await self._transport.login_accepted()

    async def ask(self, turn: Turn) -> None:
        """Send the turn that the model is to answer; its lines come from `receive`."""
        self.answers += 1
        self.inbox.open()
        await self._send(self._conversation.question(turn))

    async def resume(self, results: Sequence[Wire]) -> None:
        """Deliver tool results to the waiting turn; it continues where it stopped."""
        if not self._tools.waits_for(result["tool_use_id"] for result in results):
            self.mark_broken()
            raise ControlError("the tool calls are no longer waiting")
        self.answers += 1
        self.inbox.open()
        self._tools.answer(results)

    async def park(self, calls: Sequence[str]) -> None:
        """Keep the conversation open for its next message.

        Waits for the end of the turn or, if it made calls, until all of them have arrived. Raises
        ControlError if the turn failed.
        """
        if not calls:
            await self.turn_over()
            if self._conversation.last_result.get("is_error"):
                raise ControlError("the turn ended in an error after its answer")
            return
        self.inbox.close()
        conversation = self._conversation
        async with asyncio.timeout(STOP_TIMEOUT):
            await self._until(lambda: self._tools.waits_for(calls) or not conversation.open_turns)
        if not conversation.open_turns:
            raise ControlError("the turn continued without its results")

    async def turn_over(self) -> None:
        """Wait for the end of the turn, after which the CLI has written all of its output."""
        self.inbox.close()
        async with asyncio.timeout(STOP_TIMEOUT):
            await self._until(self._conversation.settled)

    async def receive(self) -> Wire:
        """Return the next line; raises TimeoutError after `Inbox.time_out`, or ProcessGoneError."""
        while (line := self.inbox.take()) is None:
            self._check_alive()
            self._arrived.clear()
            await self._arrived.wait()
        return line

    async def usage_limits(self, now: float) -> UsageLimits | None:
        """Return the limits of its account's plan, without asking a model; None if unknown.

        `now` is in Unix seconds. Raises ControlError or ProcessGoneError.
        """
        report = await self._transport.usage_and_plan()
        if "rate_limits" not in report:
            raise ControlError("get_usage has another form")
        return usage_limits_in_report(report, now)

    async def unbooked(self) -> Cost:
        """Return what was spent since the last booking; only part of it while an answer streams."""
        return self._conversation.spending.unbooked(await self._spent())

    async def book(self) -> Cost:
        """Return the same once, so that each cost is booked to one request."""
        return self._conversation.spending.book(await self._spent())

    async def _spent(self) -> Spent | None:
        """Return what the process has spent; None if it was killed in the middle of a turn."""
        if self._conversation.settled():
            result = self._conversation.last_result
            return spent_in(result) if result else Spent()
        try:
            # Where it has a plan, as far as is known.
            plan = self.facts is not None and self.facts.account.get("subscriptionType")
            variables = self._settings.variables if plan else None
            return spent_in_report(await self._transport.usage(variables))
        except (ControlError, ProcessGoneError):
            return None

    async def stop(self) -> None:
        """Interrupt whatever still runs and wait until nothing does."""
        self.inbox.close()
        async with asyncio.timeout(STOP_TIMEOUT):
            while self._conversation.open_turns > 0:
                self._arrived.clear()
                if not await self._transport.interrupt():
                    await self._until(self._conversation.settled)
                    return
                # The CLI has not started on the line yet, so an interrupt does not reach it. It
                # writes a line when it does.
                self._check_alive()
                await self._arrived.wait()

    async def reset(self) -> bool:
        """Wipe the conversation; False if it could not be verified that nothing is left."""
        conversation = self._conversation
        if conversation.used_builtin_tool:
            # Claude Code remembers its shell's folder and the files it read, however it is wiped.
            self.mark_broken()
            return False
        try:
            while self._capabilities.rewind and (line := conversation.to_rewind()):
                if not await self._transport.rewind(line.id):
                    break
                conversation.lines.pop()
        except (ControlError, ProcessGoneError) as error:
            logger.info("session %s could not be reset: %s", self.pid, kind_of(error))
        if not conversation.wiped():
            self.mark_broken()
        return not self.broken

    async def close(self, *, hard: bool = False) -> None:
        """End the process and wait; this continues even if the caller is cancelled.

        The process may clean up, which is quick; not in the middle of a turn, nor if `hard`.
        """
        if self._closing is None:
            hard = hard or self.failed or self._conversation.open_turns > 0
            self._closing = asyncio.ensure_future(self._close(hard=hard))
        await asyncio.shield(self._closing)

    async def _close(self, *, hard: bool) -> None:
        self.inbox.close()
        # First the process, then the client, whose clean-up then has nothing to wait for.
        await self._transport.close(hard=hard)
        await self._client.disconnect()

    async def _send(self, line: UserLine) -> None:
        # Not before: the end of a turn that was never sent would be waited for.
        await self._transport.send(line.wire, on_write=lambda: self._conversation.sent(line))

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._check_alive()
            self._arrived.clear()
            await self._arrived.wait()

    def _check_alive(self) -> None:
        if self.gone:
            self.mark_broken()
            raise ProcessGoneError

    def _on_message(self, message: Wire | None) -> None:
        if message is None and self._closing is None:
            self.on_gone()
        elif message is not None:
            kind = message["type"]
            if kind == "result":
                if self._conversation.open_turns <= 0:
                    if self.profile is None and message.get("is_error"):
                        # Its last output: it cannot start.
                        self._conversation.last_result = message
                        return
                    # From now on it is unknown which turn a line belongs to.
                    logger.error("process %s ended a turn that was not asked for", self.pid)
                    self.kill()
                self._conversation.ended(message)
            elif kind == "rate_limit_event":
                self.on_usage_limits(message, self.inbox.opened_at)
            elif self._tools.prefix and calls_builtin_tool(message):
                self._conversation.used_builtin_tool = True
            self.inbox.put(message)
        self._arrived.set()
