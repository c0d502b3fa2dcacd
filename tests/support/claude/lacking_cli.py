"""The real CLI, but for some of its behaviours: a program that stands between it and the bridge.

Run as `lacking_cli.py CLI NAMES ARGUMENTS…`, where NAMES is a JSON list of what it lacks (see
`LACKS`). It starts the CLI with the arguments and passes lines on in both directions; what it lacks
it takes out of them, or answers itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

Line = dict[str, Any]


class Lack:
    """Something the CLI does not do. By itself it passes everything on."""

    def start(self, argv: list[str], env: dict[str, str]) -> None:
        """Change how the CLI is started."""

    def to_cli(self, line: Line) -> Iterator[Line]:
        """What the CLI gets of a line of the bridge's; an `answer` goes back instead."""
        yield line

    def to_bridge(self, line: Line) -> Iterator[Line]:
        """What the bridge gets of a line of the CLI's."""
        yield line


def answer(request: Line, **response: Any) -> Line:
    """An answer to a control request, made here."""
    return {
        "type": "control_response",
        "response": {"subtype": "success", "request_id": request["request_id"], **response},
        "made_here": True,
    }


def subtype(line: Line) -> str:
    """Of a control request what it is about, else nothing."""
    request = line.get("request") if line["type"] == "control_request" else None
    return str(request["subtype"]) if request else ""


class Refuses(Lack):
    """A control request is answered with an error."""

    def __init__(self, refused: str) -> None:
        self.refused = refused

    def to_cli(self, line: Line) -> Iterator[Line]:
        if subtype(line) == self.refused:
            yield answer(line, subtype="error", error="unknown subtype")
        else:
            yield line


class Pretends(Lack):
    """A control request is confirmed but not carried out, once something else was seen."""

    def __init__(self, pretended: str, after: str = "", **response: Any) -> None:
        self.pretended = pretended
        self.after = after
        self.response = response
        self.seen = not after

    def to_cli(self, line: Line) -> Iterator[Line]:
        self.seen = self.seen or subtype(line) == self.after
        if self.seen and subtype(line) == self.pretended:
            yield answer(line, response=self.response)
        else:
            yield line

    def to_bridge(self, line: Line) -> Iterator[Line]:
        message = (line.get("request") or {}).get("message") or {}
        self.seen = self.seen or message.get("method") == self.after != ""
        yield line


class Started(Lack):
    """The CLI is started without an argument, or with other variables."""

    def __init__(self, without: str = "", **variables: str | None) -> None:
        self.without = without
        self.variables = variables

    def start(self, argv: list[str], env: dict[str, str]) -> None:
        argv[:] = [word for word in argv if word != self.without or not self.without]
        for name, value in self.variables.items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value


class OwnSettings(Lack):
    """What keeps the user's own settings out has no effect."""

    def start(self, argv: list[str], env: dict[str, str]) -> None:
        del env["CLAUDE_CODE_DISABLE_CLAUDE_MDS"]
        argv[argv.index("--settings") + 1] = "{}"


class Edits(Lack):
    """Lines are changed on their way."""

    def __init__(
        self,
        to_cli: Callable[[Line], None] = lambda line: None,
        to_bridge: Callable[[Line], None] = lambda line: None,
    ) -> None:
        self.edit_to_cli = to_cli
        self.edit_to_bridge = to_bridge

    def to_cli(self, line: Line) -> Iterator[Line]:
        self.edit_to_cli(line)
        yield line

    def to_bridge(self, line: Line) -> Iterator[Line]:
        self.edit_to_bridge(line)
        yield line


class QueuedInterrupt(Lack):
    """An interrupt overtakes the line before it, which is then neither stopped nor named."""

    def __init__(self) -> None:
        self.held: list[Line] = []

    def to_cli(self, line: Line) -> Iterator[Line]:
        if line["type"] == "user":
            self.held.append(line)
            return
        yield line
        yield from self.held
        self.held.clear()

    def to_bridge(self, line: Line) -> Iterator[Line]:
        if line["type"] == "control_response":
            (line["response"].get("response") or {}).pop("still_queued", None)
        yield line


class Setting(Lack):
    """A setting has no effect on a running process."""

    def __init__(self, name: str, field: str = "") -> None:
        """Drop the setting, or of a JSON object in it one `field`."""
        self.name = name
        self.field = field

    def to_cli(self, line: Line) -> Iterator[Line]:
        if subtype(line) == "apply_flag_settings":
            self._drop(line["request"]["settings"])
            self._drop(line["request"]["settings"].get("env", {}))
        yield line

    def _drop(self, settings: dict[str, Any]) -> None:
        if self.field and settings.get(self.name):
            value = json.loads(settings[self.name])
            value.pop(self.field, None)
            settings[self.name] = json.dumps(value)
        elif not self.field:
            settings.pop(self.name, None)


def _preset(line: Line) -> None:
    if subtype(line) == "initialize":
        line["request"].setdefault("systemPrompt", "Short.")


def _system_prompt(line: Line) -> None:
    if subtype(line) == "initialize":
        line["request"].pop("systemPrompt", None)


def _facts(line: Line) -> None:
    if line["type"] == "control_response":
        (line["response"].get("response") or {}).pop("account", None)


def _last_block(line: Line) -> None:
    if line["type"] == "user" and line.get("shouldQuery") is False:
        content = line["message"]["content"]
        del content[1:]


def _composed(line: Line) -> None:
    line.pop("client_composed", None)


def _usage(line: Line) -> None:
    if line["type"] == "stream_event":
        line["event"].pop("usage", None)


def _plan(line: Line) -> None:
    if line["type"] == "control_response":
        (line["response"].get("response") or {}).pop("rate_limits", None)


def _error_status(line: Line) -> None:
    line.pop("api_error_status", None)


def _failure_kinds(line: Line) -> None:
    if line["type"] in ("assistant", "result"):
        line.pop("error", None)
        line.pop("api_error", None)


def _broken_off(line: Line) -> None:
    # It looks as if the model had ended the answer.
    if line["type"] == "stream_event" and line["event"]["type"] == "content_block_stop":
        line["event"] = {"type": "message_delta", "delta": {"stop_reason": None}}


def _mcp_result(line: Line) -> Line:
    if line["type"] != "control_response":
        return {}
    message = (line["response"].get("response") or {}).get("mcp_response") or {}
    return message.get("result") or {}


def _no_tools(line: Line) -> None:
    result = _mcp_result(line)
    if "tools" in result:
        result["tools"] = []


def _tool_field(field: str) -> Callable[[Line], None]:
    def edit(line: Line) -> None:
        for tool in _mcp_result(line).get("tools", ()):
            tool.pop(field, None)

    return edit


def _results(line: Line) -> None:
    for block in _mcp_result(line).get("content", ()):
        block["text"] = "another"


LIMIT, THINKING, RETRIES, BODY = (
    f"CLAUDE_CODE_{name}"
    for name in ("MAX_OUTPUT_TOKENS", "DISABLE_THINKING", "MAX_RETRIES", "EXTRA_BODY")
)

LACKS: dict[str, Callable[[], Lack]] = {
    # By the id of the behaviour that is not there.
    "boots": lambda: Refuses("get_settings"),
    "preset": lambda: Edits(_preset),
    "own-settings": OwnSettings,
    "facts": lambda: Edits(to_bridge=_facts),
    "rewind-after-answers": lambda: Pretends("rewind_conversation", rewound=True),
    "rewind-after-interrupt": lambda: Pretends("rewind_conversation", "interrupt", rewound=True),
    "rewind-after-tools": lambda: Pretends("rewind_conversation", "tools/call", rewound=True),
    "system-prompt": lambda: Edits(_system_prompt),
    "no-built-in-tools": lambda: Started("--tools="),
    "own-tools": lambda: Started(CLAUDE_CODE_DISABLE_BACKGROUND_TASKS=None),
    "user-agent": lambda: Started(CLAUDE_AGENT_SDK_CLIENT_APP=None),
    "no-title": lambda: Started(CLAUDE_CODE_DISABLE_TERMINAL_TITLE=None),
    "cache-breakpoints": lambda: Started(CLAUDE_CODE_PROMPT_CACHE_TTL="5m"),
    "replay": lambda: Edits(_last_block),
    "as-written": lambda: Edits(_composed),
    "partial-messages": lambda: Started("--include-partial-messages"),
    "usage": lambda: Edits(to_bridge=_usage),
    "token-count": lambda: Refuses("get_context_usage"),
    "costs": lambda: Refuses("get_usage"),
    "plan": lambda: Edits(to_bridge=_plan),
    "error-status": lambda: Edits(to_bridge=_error_status),
    "failure-kinds": lambda: Edits(to_bridge=_failure_kinds),
    "no-second-call": lambda: Started(CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK=None),
    "broken-off": lambda: Edits(to_bridge=_broken_off),
    "refused-once": lambda: Started(CLAUDE_CODE_DISABLE_REFUSAL_RETRY=None),
    "no-compaction": lambda: Started(DISABLE_AUTO_COMPACT=None),
    "reported-waits": lambda: Started(CLAUDE_CODE_RETRY_WATCHDOG=None),
    "interrupt": lambda: Pretends("interrupt"),
    "interrupt-queued": QueuedInterrupt,
    "client-tools": lambda: Edits(_no_tools),
    "whole-tools": lambda: Started(ENABLE_TOOL_SEARCH=None),
    "parked-calls": lambda: Edits(_tool_field("annotations")),
    "resumed-calls": lambda: Edits(_results),
    "large-results": lambda: Edits(_tool_field("_meta")),
    "late-model": lambda: Setting("model"),
    "late-effort": lambda: Setting("effortLevel"),
    "late-max-output-tokens": lambda: Setting(LIMIT),
    "late-thinking": lambda: Setting(THINKING),
    "late-retries": lambda: Setting(RETRIES),
    "late-temperature": lambda: Setting(BODY, "temperature"),
    "late-top-p": lambda: Setting(BODY, "top_p"),
    "late-stop-sequences": lambda: Setting(BODY, "stop_sequences"),
    "late-tool-choice": lambda: Setting(BODY, "tool_choice"),
    "late-output-format": lambda: Setting(BODY, "output_config"),
    "late-tools": lambda: Setting(BODY, "tools"),
    # The same by another way.
    "long-descriptions": lambda: Started(CLAUDE_CODE_MAX_MCP_DESCRIPTION_LENGTH=None),
    # All of them.
    "rewind": lambda: Refuses("rewind_conversation"),
}


def main() -> None:
    cli, names, *arguments = sys.argv[1:]
    lacks = [LACKS[name]() for name in json.loads(names)]
    argv, env = [cli, *arguments], dict(os.environ)
    for lack in lacks:
        lack.start(argv, env)
    process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    writing = threading.Lock()

    def passed(line: Line, step: Callable[[Lack, Line], Iterator[Line]]) -> list[Line]:
        lines = [line]
        for lack in lacks:
            lines = [
                after
                for before in lines
                for after in ([before] if "made_here" in before else step(lack, before))
            ]
        return lines

    def say(line: Line) -> None:
        data = json.dumps(line).encode() + b"\n"
        with writing:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def hear() -> None:
        assert process.stdout is not None
        for text in process.stdout:
            for line in passed(json.loads(text), lambda lack, line: lack.to_bridge(line)):
                say(line)
        # The bridge closes its end when it sees that this one is closed.
        os._exit(process.wait())

    threading.Thread(target=hear, daemon=True).start()
    for text in sys.stdin.buffer:
        for line in passed(json.loads(text), lambda lack, line: lack.to_cli(line)):
            if line.pop("made_here", False):
                say(line)
            else:
                process.stdin.write(json.dumps(line).encode() + b"\n")
        process.stdin.flush()
    process.stdin.close()
    process.wait()


if __name__ == "__main__":
    main()
