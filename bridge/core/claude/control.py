"""The CLI's control protocol: the only module that knows its subtypes.

`ControlTransport` is an SDK `Transport` over a process that is already started and booted. The
SDK's client initialises the process through it and answers the CLI's requests. The transport itself
sends the control requests that the SDK has no call for, adds the system prompt to the SDK's
`initialize`, and passes the lines of the conversation directly to its listener, because the SDK's
own queue would block the control protocol whenever an answer is not read.

Measured on the CLI of the pinned SDK; tests/integration/claude/test_control_real.py tests each
behaviour relied on.
"""

# long: the whole protocol, a method for each subtype.
from __future__ import annotations

import asyncio
import itertools
import json
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from claude_agent_sdk import Transport
from pydantic_core import from_json

from bridge.core.claude.processes import (
    NO_EXTRAS,
    Command,
    Leftovers,
    LineProcess,
    ProcessGoneError,
)
from bridge.core.claude.wire import Wire, encoded, is_long, long_encoded
from bridge.core.system import off_loop
from bridge.core.telemetry import trace_of

logger = logging.getLogger(__name__)

END_SECONDS = 2.0
"""Seconds a process may take to end by itself; it usually takes about a tenth of a second."""

CONTROL_TIMEOUT = 30.0
"""Seconds a control request may take; it usually takes milliseconds."""

_USAGE_SECONDS = 5.0
"""Seconds that `get_usage` may take; it usually takes one millisecond."""

_PLAN_SECONDS = 20.0
"""Seconds that it may take with the limits of a plan; the CLI itself gives up after some."""

_ENDED_BY_ITSELF = (0, 128 + signal.SIGTERM)
_OWN_PREFIX = "bridge-"
_MCP_TOOLS = "mcp_tools"
_MESSAGES = "messages"
_TO_SDK = frozenset({"control_request", "control_cancel_request"})


class ControlError(Exception):
    """The CLI refused a control request, or did not answer it in time."""

    def __init__(self, for_log: str, detail: str = "") -> None:
        """`detail` is the CLI's own text, which may repeat its input: never log it."""
        super().__init__(": ".join(filter(None, (for_log, detail))))
        self.for_log = for_log


class ControlTimeoutError(ControlError):
    """The CLI did not answer in time, or does not read its input."""


def _parsed(line: bytes) -> Any:
    try:
        # Every token is such a line, and this parser takes a third of the time.
        return from_json(line)
    except ValueError:
        # This parser rejects half a surrogate pair and deep nesting, though both are valid JSON.
        return json.loads(line)


class ControlTransport(Transport):
    """An SDK transport that shares one CLI process with the bridge's own requests."""

    def __init__(self, listener: Callable[[Wire | None], None]) -> None:
        """Pass each line of the conversation to `listener`, and None when the process ends."""
        self._listener = listener
        self._process: LineProcess | None = None
        self._counter = itertools.count(1)
        self._pending: dict[str, asyncio.Future[Wire]] = {}
        self._to_sdk: asyncio.Queue[Wire | None] = asyncio.Queue()
        self._initialize_fields: Wire = {}
        self._closing = False
        self._leftovers: Leftovers | None = None
        self._wedged = False
        self._extras = False
        """Whether the CLI calls more than the Messages API."""

    async def spawn(self, command: Command) -> None:
        """Start the process; raises OSError if it cannot be executed."""
        # Set before the start, since the first line can arrive before `start` returns.
        self._process = LineProcess(self._on_line, self._on_exit)
        try:
            await self._process.launch(command)
        except BaseException:
            self._process = None
            raise
        self._extras = not command.env.get(NO_EXTRAS)
        self._leftovers = Leftovers.of(self._process.pid, command.env)

    @property
    def process(self) -> LineProcess:
        """The process; only after `spawn`."""
        assert self._process is not None
        return self._process

    # Requests to the CLI. Each raises ControlError or ProcessGoneError.

    async def boot(self, timeout: float) -> str | None:
        """Wait until the process has started up and answers.

        Returns the model that the operator's own settings resolve to: once a model was set, null
        does not restore it but sets the CLI's default.
        """
        answer = await self.request("get_settings", timeout=timeout)
        applied = answer.get("applied")
        model = applied.get("model") if isinstance(applied, dict) else None
        return model if isinstance(model, str) else None

    def on_initialize(
        self, *, system_prompt: str | None, instruction: str = "", json_schema: str = ""
    ) -> None:
        """Set the content of the SDK's `initialize`.

        Without a system prompt the claude_code preset is kept; the instruction is added to either.
        With a schema, the CLI offers the model a tool of its own, `StructuredOutput`.
        """
        fields: Wire = {}
        if system_prompt is not None:
            fields["systemPrompt"] = "\n\n".join(filter(None, (system_prompt, instruction)))
        elif instruction:
            fields["appendSystemPrompt"] = instruction
        if json_schema:
            fields["jsonSchema"] = json.loads(json_schema)
        self._initialize_fields = fields

    def pause_reading(self) -> None:
        """Leave the output of the process in the pipe."""
        self.process.pause_reading()

    def resume_reading(self) -> None:
        """Read the output again."""
        self.process.resume_reading()

    async def apply_settings(self, settings: Mapping[str, Any]) -> None:
        """Change settings for later turns; they are merged, and null removes one."""
        await self.request("apply_flag_settings", settings=dict(settings))

    async def set_tool_servers(self, names: Sequence[str], *, without: Sequence[str] = ()) -> None:
        """Set the in-process MCP servers. The CLI lists a server's tools again when it is added.

        The CLI keeps offering tools that a server once had: `without` are the tools, by their
        names with the CLI's prefix, that are not offered.
        """
        servers = {name: {"type": "sdk", "name": name} for name in names}
        await self.request("mcp_set_servers", servers=servers, denied_tools=list(without))

    async def rewind(self, user_line: str) -> bool:
        """Rewind the conversation to before a user line; False if that was not done.

        Lines are rewound from the newest to the oldest: the CLI refuses an older one first.
        """
        answer = await self.request("rewind_conversation", target_message_uuid=user_line)
        return answer.get("rewound") is True

    async def context_tokens(self) -> int:
        """Return the CLI's estimate of the tokens in its conversation, system prompt included.

        The API counts them at no charge; if it fails, the CLI guesses from their length. The
        definitions of MCP tools are left out: the CLI is off by 500 tokens for those.
        """
        answer = await self.request("get_context_usage")
        try:
            return sum(
                int(category["tokens"])
                for category in answer["categories"]
                if category["kind"] == "used" and category["id"] != _MCP_TOOLS
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ControlError("get_context_usage has another form") from error

    async def login_accepted(self) -> bool:
        """Return whether the API accepts the login; the conversation must be empty.

        The API counts the tokens of a message that the CLI makes up. If it refuses, the CLI has
        none to report.
        """
        answer = await self.request("get_context_usage")
        try:
            return any(
                category["id"] == _MESSAGES and int(category["tokens"]) > 0
                for category in answer["categories"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ControlError("get_context_usage has another form") from error

    async def usage(self, variables: Mapping[str, str] | None = None) -> Wire:
        """Return the tokens and the cost of the process so far, also in the middle of a turn.

        `variables` are those in force, if its account has a plan: unless it may not, the CLI would
        ask the API for the plan's limits first, each time.
        """
        ask = partial(self.request, "get_usage", timeout=_USAGE_SECONDS, skip_behaviors=True)
        if variables is None or not self._extras:
            return await ask()
        await self.apply_settings({"env": {**variables, NO_EXTRAS: "1"}})
        try:
            return await ask()
        finally:
            await self.apply_settings({"env": {**variables, NO_EXTRAS: ""}})

    async def usage_and_plan(self) -> Wire:
        """Return the same with the limits of the account's plan, if it has one.

        For these the CLI asks the API, without calling a model; that can take seconds.
        """
        return await self.request(
            "get_usage", timeout=_PLAN_SECONDS, skip_behaviors=True, detached=True
        )

    async def interrupt(self) -> list[str]:
        """Stop the current turn; its `result` line follows.

        Returns the user lines that the CLI had not started on: those are not stopped.
        """
        answer = await self.request("interrupt")
        return list(answer.get("still_queued") or ())

    async def request(self, subtype: str, *, timeout: float | None = None, **fields: Any) -> Wire:
        """Send one control request and wait for its answer; None means CONTROL_TIMEOUT."""
        if timeout is None:
            timeout = CONTROL_TIMEOUT
        request_id = f"{_OWN_PREFIX}{next(self._counter)}"
        future: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        line = {
            "type": "control_request",
            "request_id": request_id,
            "request": {"subtype": subtype, **fields},
        }
        try:
            async with asyncio.timeout(timeout):
                await self.send(line)
                response = await future
        except TimeoutError as error:
            self._wedged = True
            raise ControlTimeoutError(f"{subtype} was not answered in {timeout:g} s") from error
        finally:
            self._pending.pop(request_id, None)
        if response.get("subtype") != "success":
            raise ControlError(f"{subtype} was refused", str(response.get("error")))
        answer = response.get("response")
        return answer if isinstance(answer, dict) else {}

    async def send(
        self, line: Mapping[str, Any], *, on_write: Callable[[], None] = lambda: None
    ) -> None:
        """Write one line to the process; raises ControlTimeoutError if it does not read.

        `on_write` is called right before the line is written. It is not if the caller is cancelled
        while a long line is encoded.
        """
        long = is_long(line)
        data = await off_loop(long, long_encoded if long else encoded, line)
        on_write()
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT):
                await self.process.write(data)
        except TimeoutError as error:
            self._wedged = True
            raise ControlTimeoutError("the CLI does not read its input") from error

    async def answers(self, timeout: float) -> None:
        """Send a request that has no effect and wait for its answer, whatever the process is
        doing."""
        await self.request("get_settings", timeout=timeout)

    # Output of the process

    def _on_line(self, line: bytes) -> None:
        if not line.startswith(b"{") and b'{"' not in line:
            logger.debug("process %s: not JSON on stdout", self.process.pid)
            return
        try:
            message = _parsed(line)
            kind = message["type"]
            if not isinstance(kind, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            logger.error("terminating process %s: it wrote an invalid line", self.process.pid)
            self.process.kill()
            return
        try:
            if kind == "control_response":
                self._on_response(message)
            elif kind in _TO_SDK:
                self._to_sdk.put_nowait(message)
            else:
                self._listener(message)
        except Exception as error:  # noqa: BLE001 - it is logged, and the process ended
            # If it propagated, the other lines of the same chunk would be lost.
            pid = self.process.pid
            logger.error(
                "terminating process %s: handling its output failed\n%s", pid, trace_of(error)
            )
            self.process.kill()

    def _on_response(self, message: Wire) -> None:
        response: Wire = message.get("response") or {}
        request_id = response.get("request_id")
        if isinstance(request_id, str) and request_id.startswith(_OWN_PREFIX):
            # A late answer; its request has timed out.
            future = self._pending.get(request_id)
            if future is not None and not future.done():
                future.set_result(response)
        else:
            self._to_sdk.put_nowait(message)

    def _on_exit(self) -> None:
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ProcessGoneError())
        self._to_sdk.put_nowait(None)
        self._listener(None)

    # claude_agent_sdk.Transport

    async def connect(self) -> None:
        """Nothing to do: the process was started by `spawn`."""

    async def write(self, data: str) -> None:
        """Forward a line of the SDK, with the additions to its `initialize`."""
        if self._initialize_fields and '"initialize"' in data:
            line = json.loads(data)
            if line.get("request", {}).get("subtype") == "initialize":
                line["request"].update(self._initialize_fields)
                self._initialize_fields = {}
                await self.send(line)
                return
        try:
            await self.process.write(data.encode())
        except ProcessGoneError:
            # A process that has ended needs no answer.
            if '"control_response"' not in data:
                raise

    async def read_messages(self) -> AsyncIterator[Wire]:
        """Yield the SDK's share of the output: control traffic only."""
        while (message := await self._to_sdk.get()) is not None:
            yield message
        if not self._closing:
            # The SDK must not wait for answers that will never arrive.
            raise ProcessGoneError("the process ended")

    async def close(self, *, hard: bool = True) -> None:
        """End the process and wait for it; it may clean up unless `hard` is set or it hangs."""
        self._closing = True
        if self._process is None:
            return
        await self._process.aclose(0.0 if hard or self._wedged else END_SECONDS)
        if self._leftovers is not None and self._process.exit_code not in _ENDED_BY_ITSELF:
            await asyncio.to_thread(self._leftovers.remove)

    def is_ready(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.alive

    async def end_input(self) -> None:
        """Close the process's stdin."""
        if self._process is not None:
            self._process.close_input()
