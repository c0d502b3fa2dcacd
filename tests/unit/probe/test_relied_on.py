"""Whatever the bridge relies on of the CLI is in the probe's list."""

from __future__ import annotations

import ast
import inspect

from bridge.core.claude import TurnSettings, control
from bridge.core.claude.processes import launch
from bridge.core.claude.turn_settings import environment_of
from bridge.probe.behaviours import BEHAVIOURS

SHOWN_BY = {
    # Environment variables
    "CLAUDE_CODE_ENTRYPOINT": "user-agent",
    "CLAUDE_AGENT_SDK_VERSION": "user-agent",
    "CLAUDE_AGENT_SDK_CLIENT_APP": "user-agent",
    "DISABLE_AUTO_COMPACT": "no-compaction",
    "ENABLE_TOOL_SEARCH": "whole-tools",
    "CLAUDE_CODE_MAX_MCP_DESCRIPTION_LENGTH": "whole-tools",
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "own-settings",
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "refused-once",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "no-second-call",
    "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "no-title",
    "CLAUDE_CODE_RETRY_WATCHDOG": "reported-waits",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "own-tools",
    "CLAUDE_CODE_PROMPT_CACHE_TTL": "cache-breakpoints",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "late-max-output-tokens",
    "CLAUDE_CODE_DISABLE_THINKING": "late-thinking",
    "CLAUDE_CODE_MAX_RETRIES": "late-retries",
    "CLAUDE_CODE_EXTRA_BODY": "late-tools",
    "MCP_TOOL_TIMEOUT": "parked-calls",
    # Control messages
    "get_settings": "boots",
    "apply_flag_settings": "late-model",
    "mcp_set_servers": "client-tools",
    "rewind_conversation": "rewind-after-answers",
    "interrupt": "interrupt",
    "get_context_usage": "token-count",
    "get_usage": "costs",
}


def control_messages() -> set[str]:
    """The subtypes that control.py sends."""
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(control))) if isinstance(n, ast.Call)]
    return {
        str(argument.value)
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "request"
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant)
    }


def test_every_variable_and_control_message_is_shown_by_a_behaviour() -> None:
    relied_on = {
        *launch._ENVIRONMENT,
        *launch._ENVIRONMENT_WITH_TOOLS,
        "CLAUDE_CODE_PROMPT_CACHE_TTL",
        *environment_of(TurnSettings()),
        *control_messages(),
    }
    assert relied_on == SHOWN_BY.keys()
    assert set(SHOWN_BY.values()) <= {behaviour.id for behaviour in BEHAVIOURS}
