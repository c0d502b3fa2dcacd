"""The list of CLI behaviours that the bridge relies on, each with its check.

A check raises `Lacking` if it observes something else. It uses a `Session` as the engine does, and
looks at what reached the model. No check relies on a behaviour that the bridge can do without.
"""

from __future__ import annotations

import json

from bridge.core.claude import (
    MAX_RESULT_CHARACTERS,
    TurnSettings,
)
from bridge.probe.checks.check import NO_REWIND, Behaviour
from bridge.probe.checks.conversations import (
    as_written,
    costs,
    counted,
    error_status,
    interrupt,
    interrupt_queued,
    partial_messages,
    replay,
    usage,
)
from bridge.probe.checks.failing import (
    broken_off,
    failure_kinds,
    no_compaction,
    no_second_call,
    refused_once,
    reported_waits,
)
from bridge.probe.checks.rewinding import (
    rewind_after_answers,
    rewind_after_interrupt,
    rewind_after_tools,
)
from bridge.probe.checks.settings import (
    SCHEMA,
    effort_low,
    field,
    forced,
    formatted,
    late,
    sampled,
    thinking_off,
    with_body,
)
from bridge.probe.checks.starting import (
    boots,
    cache_breakpoints,
    facts,
    no_built_in_tools,
    no_title,
    own_tools,
    plan,
    preset,
    system_prompt,
    user_agent,
    user_settings,
)
from bridge.probe.checks.tools import (
    TOOLS,
    client_tools,
    exact_tools,
    large_results,
    parked_calls,
    resumed_calls,
    whole_tools,
)
from bridge.probe.stage import sim

LIST_VERSION = 2
"""Incremented when the same ids get another meaning: stored results are then invalid."""


BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        "boots",
        "A process answers and accepts settings before it is initialised.",
        boots,
    ),
    Behaviour(
        "preset",
        "Without a system prompt Claude Code's own preset is used.",
        preset,
    ),
    Behaviour(
        "own-settings",
        "Of the user's own settings, only the default model reaches a conversation.",
        user_settings,
    ),
    Behaviour(
        "facts",
        "The answer to initialize reports the version, the login and the models on offer.",
        facts,
    ),
    Behaviour(
        "rewind-after-answers",
        "Rewinding a conversation removes all of it.",
        rewind_after_answers,
        fallback=NO_REWIND,
    ),
    Behaviour(
        "rewind-after-interrupt",
        "Rewinding removes an interrupted answer.",
        rewind_after_interrupt,
        fallback=NO_REWIND,
    ),
    Behaviour(
        "rewind-after-tools",
        "Rewinding removes tool calls, answered and unanswered.",
        rewind_after_tools,
        fallback=NO_REWIND,
    ),
    Behaviour(
        "system-prompt",
        "A system prompt given at initialize replaces the preset.",
        system_prompt,
    ),
    Behaviour(
        "no-built-in-tools",
        "All built-in tools can be turned off.",
        no_built_in_tools,
    ),
    Behaviour(
        "own-tools",
        "Some built-in tools can be turned on, with a prefix to the caller's, and none runs in the "
        "background.",
        own_tools,
    ),
    Behaviour(
        "user-agent",
        "The upstream request names the bridge in its User-Agent.",
        user_agent,
    ),
    Behaviour(
        "no-title",
        "A question is one upstream call: none is made for a title of the session.",
        no_title,
    ),
    Behaviour(
        "cache-breakpoints",
        "A request has at most four cache breakpoints, including the bridge's, of one duration.",
        cache_breakpoints,
    ),
    Behaviour(
        "replay",
        "Earlier turns reach the model unchanged and in order: texts, calls, results, images "
        "and documents.",
        replay,
    ),
    Behaviour(
        "as-written",
        "Text that looks like a command is not run, and a file name in it is not read.",
        as_written,
    ),
    Behaviour(
        "partial-messages",
        "An answer is streamed while the model generates it.",
        partial_messages,
    ),
    Behaviour(
        "usage",
        "Token counts are reported at the start and the end of an answer.",
        usage,
    ),
    Behaviour(
        "token-count",
        "The tokens of a conversation are counted without a call of the model.",
        counted,
    ),
    Behaviour(
        "costs",
        "What a process has spent is reported, also within an answer.",
        costs,
    ),
    Behaviour(
        "plan",
        "Whether there are usage limits of a plan is reported without an answer.",
        plan,
        fallback="the usage limits are known after the first answer",
    ),
    Behaviour(
        "error-status",
        "A failed upstream call is reported with its HTTP status.",
        error_status,
    ),
    Behaviour(
        "failure-kinds",
        "A failed upstream call is reported with the kind of its failure.",
        failure_kinds,
    ),
    Behaviour(
        "no-second-call",
        "A call that fails before its first output is not retried without streaming.",
        no_second_call,
    ),
    Behaviour(
        "broken-off",
        "A stream that is cut after a tool call ends without a stop reason.",
        broken_off,
    ),
    Behaviour(
        "refused-once",
        "A request that the model refuses is not sent again.",
        refused_once,
    ),
    Behaviour(
        "no-compaction",
        "A conversation that fills the context window is not replaced by a summary.",
        no_compaction,
    ),
    Behaviour(
        "reported-waits",
        "The delay before a retry is reported.",
        reported_waits,
    ),
    Behaviour(
        "interrupt",
        "An interrupt ends the turn and closes the upstream connection.",
        interrupt,
    ),
    Behaviour(
        "interrupt-queued",
        "An interrupt reports the lines that were not started; they end too.",
        interrupt_queued,
    ),
    Behaviour(
        "client-tools",
        "The caller's tools can be offered under their own names, replaced and withdrawn between "
        "conversations.",
        client_tools,
    ),
    Behaviour(
        "whole-tools",
        "Many tools with long descriptions are offered whole and at once.",
        whole_tools,
    ),
    Behaviour(
        "parked-calls",
        "Several calls in one answer run concurrently, wait as long as needed, and end with an "
        "interrupt.",
        parked_calls,
    ),
    Behaviour(
        "resumed-calls",
        "A turn continues with the results of its calls, all of them and in order.",
        resumed_calls,
    ),
    Behaviour(
        "large-results",
        f"A result of {MAX_RESULT_CHARACTERS:,} characters reaches the model unchanged.",
        large_results,
    ),
    late(
        "late-model",
        "The model can be changed on a running process.",
        TurnSettings(model="claude-haiku-4-5"),
        field("model", "claude-haiku-4-5"),
    ),
    late(
        "late-effort",
        "The effort can be changed on a running process.",
        TurnSettings(effort="low"),
        effort_low,
    ),
    late(
        "late-max-output-tokens",
        "The output token limit can be changed on a running process.",
        TurnSettings(max_output_tokens=1_234),
        field("max_tokens", 1_234),
    ),
    late(
        "late-thinking",
        "Thinking can be turned off and on again on a running process.",
        TurnSettings(thinking=False),
        thinking_off,
    ),
    late(
        "late-retries",
        "The number of retries can be changed on a running process.",
        TurnSettings(retries=0),
        lambda exchanges: len(exchanges) == 1,
        plain=TurnSettings(retries=1),
        say=sim(error={"status": 500}),
    ),
    late(
        "late-temperature",
        "The temperature can be changed on a running process.",
        with_body(temperature=0.25),
        sampled,
    ),
    late(
        "late-top-p",
        "top_p can be changed on a running process.",
        with_body(top_p=0.75),
        sampled,
    ),
    late(
        "late-stop-sequences",
        "Stop sequences can be changed on a running process.",
        with_body(stop_sequences=("#+#",)),
        field("stop_sequences", ["#+#"]),
    ),
    late(
        "late-tool-choice",
        "The tool choice can be changed on a running process.",
        with_body(tool_choice=json.dumps({"type": "tool", "name": "second"})),
        forced,
        tools=TOOLS,
    ),
    late(
        "late-output-format",
        "The JSON schema of the answer can be changed on a running process.",
        with_body(output_schema=SCHEMA),
        formatted,
    ),
    Behaviour(
        "late-tools",
        "Tool definitions can be set on a running process: they reach the model exactly as given, "
        "and the tools are called.",
        exact_tools,
    ),
)
"""The list, in the order of testing."""
