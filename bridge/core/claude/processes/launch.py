"""The arguments, environment and folder of CLI processes.

Everything that the CLI would do without the caller's knowledge is turned off here. Of the
operator's own settings, only the default model and the login are used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from bridge import __version__
from bridge.core.claude.processes.process import Command
from bridge.core.claude.processes.user_settings import NOTHING, UserSettings
from bridge.core.claude.turn_settings import TurnSettings, environment_of
from bridge.core.claude.wire import TOOL_PREFIX
from bridge.core.system import OrphanGuard
from bridge.core.validation import BuiltinTools

# Set at the start, because SessionStart hooks run before later settings arrive.
_SETTINGS = {
    "disableAllHooks": True,
    "claudeMdExcludes": ["**"],
    "autoMemoryEnabled": False,
    "outputStyle": "default",
    "language": "",
    # Useless to a caller, and mentioned to the model if it has a shell.
    "attribution": {"commit": "", "pr": ""},
    "includeGitInstructions": False,
}

_ENVIRONMENT = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "CLAUDE_AGENT_SDK_VERSION": version("claude-agent-sdk"),
    # The bridge's name in the User-Agent of upstream requests: the SDK's `client_app`.
    "CLAUDE_AGENT_SDK_CLIENT_APP": f"claude-code-bridge/{__version__}",
    # A conversation that fills the context window ends in an error, not in a silent summary.
    "DISABLE_AUTO_COMPACT": "1",
    # Exactly the caller's tools are offered; none is hidden behind a search.
    "ENABLE_TOOL_SEARCH": "false",
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
    # A refusal is the answer: without this, the CLI would retry it at a cost, unseen.
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1",
    # Do not retry a stream that fails before its first block without streaming: that second
    # answer would not be seen here, and its failures hide the first one's.
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    # Makes the CLI report how long the API wants it to wait, even beyond a minute. The bridge
    # decides how often and how long it may retry.
    "CLAUDE_CODE_RETRY_WATCHDOG": "1",
    # Do not ask the model for a title of the session: nobody sees it, and every question would be
    # sent, and paid for, twice.
    "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
    # Do not cut the descriptions of the caller's tools.
    "CLAUDE_CODE_MAX_MCP_DESCRIPTION_LENGTH": "10000000",
}

_WITH_TOOLS = (
    # Deny instead of asking, whatever the settings say: there is no user to ask.
    "--permission-mode=dontAsk",
    "--permission-prompts=none",
    # The file tools stay within the working directory, even through links, and project settings,
    # which a caller could write, are not read.
    "--restricted",
)

# Background work that outlives the answer would report to the next caller of the process.
_ENVIRONMENT_WITH_TOOLS = {"CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1"}

# The caller's tools reach the model under their own names.
_OWN_NAMES = {"CLAUDE_AGENT_SDK_MCP_NO_PREFIX": "1"}

LONGEST_VARIABLE = 100_000
"""Maximum bytes of an environment variable of a started command: Linux accepts 131,072."""

API_KEY = "ANTHROPIC_API_KEY"
AUTH_TOKEN = "ANTHROPIC_AUTH_TOKEN"
OAUTH_TOKEN = "CLAUDE_CODE_OAUTH_TOKEN"
_OTHER_PROVIDERS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")


@dataclass(frozen=True, slots=True)
class Launcher:
    """The common settings of all CLI processes of a server."""

    cli: Path
    environment: Mapping[str, str]
    """The server's own environment, or a hermetic one."""
    folder: Path
    """The working directory: neutral, since the CLI names it to the model; not used if
    `builtin_tools` names one."""
    setting_sources: Sequence[str] = ()
    """Settings files that the CLI reads and applies in full: `project` and `local`, those of
    `folder`. The operator's own are never among them."""
    user_settings: UserSettings = NOTHING
    """The part of the operator's own settings that applies."""
    builtin_tools: BuiltinTools | None = None
    """Claude Code's own tools that are on; None means none."""
    telemetry: Mapping[str, str] = field(default_factory=dict)
    """Variables that make the CLI trace its work."""
    use_api_key: bool = False
    """Whether ANTHROPIC_API_KEY is passed on: the CLI bills it even if there is a login."""
    guard: OrphanGuard | None = None
    """Ends the processes if the server is killed."""

    @property
    def has_api_key(self) -> bool:
        """Whether there is an API key that could be used."""
        return bool(self.environment.get(API_KEY))

    @property
    def cache_ttl(self) -> str | None:
        """The lifetime of prompt cache entries, as the CLI itself chooses it by account.

        It is set explicitly, because the API requires the bridge's own breakpoint to live at least
        as long as those that the CLI puts after it
        (https://platform.claude.com/docs/en/build-with-claude/prompt-caching). None for other
        providers, which have rules of their own.
        """
        if any(self.environment.get(name) for name in _OTHER_PROVIDERS):
            return None
        return "5m" if self.use_api_key or self.environment.get(AUTH_TOKEN) else "1h"

    @property
    def longest_variable(self) -> int | None:
        """The maximum length of a CLI variable, in bytes; None means unlimited.

        The CLI's child processes get all variables: the commands that log the operator in, and on
        macOS the one that reads the keychain. With a longer variable these fail, and the CLI has no
        login.
        """
        starts = self.user_settings.login or self.setting_sources or sys.platform == "darwin"
        provided = any(self.environment.get(name) for name in _OTHER_PROVIDERS)
        return LONGEST_VARIABLE if starts or provided else None

    @property
    def cache_control(self) -> dict[str, str] | None:
        """The cache breakpoint on the first question of a conversation."""
        return None if self.cache_ttl is None else {"type": "ephemeral", "ttl": self.cache_ttl}

    @property
    def tool_prefix(self) -> str:
        """What the CLI puts before the names of the caller's tools: its own could have the same."""
        return "" if self.builtin_tools is None else TOOL_PREFIX

    def restore_folder(self) -> None:
        """Recreate the working directory if it is gone; raises OSError.

        Systems delete entries of the temporary folder after some days.
        """
        if self.builtin_tools is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def command(self) -> Command:
        """Return the command that starts one process."""
        variables = environment_of(TurnSettings())
        env = {
            name: value
            for name, value in self.environment.items()
            # With CLAUDECODE set, it would believe that it runs inside another Claude Code.
            if not name.startswith("BRIDGE_") and name != "CLAUDECODE"
        }
        if not self.use_api_key:
            env.pop(API_KEY, None)
        if self.cache_ttl is not None:
            env["CLAUDE_CODE_PROMPT_CACHE_TTL"] = self.cache_ttl
        builtin = self.builtin_tools
        env.update(_OWN_NAMES if builtin is None else _ENVIRONMENT_WITH_TOOLS)
        folder = self.folder if builtin is None else builtin.folder
        return Command(
            argv=(
                str(self.cli),
                "--input-format=stream-json",
                "--output-format=stream-json",
                "--verbose",
                "--include-partial-messages",
                f"--tools={','.join(builtin.names) if builtin else ''}",
                f"--allowedTools={','.join(('mcp__client', *(builtin.rules if builtin else ())))}",
                *(_WITH_TOOLS if builtin else ()),
                "--strict-mcp-config",
                "--no-session-persistence",
                f"--setting-sources={','.join(self.setting_sources)}",
                "--settings",
                # Passed here and not in the environment, so that they override the operator's own.
                json.dumps({**self.user_settings.settings, **_SETTINGS, "env": variables}),
            ),
            env={**env, **_ENVIRONMENT, **self.telemetry, "PWD": str(folder)},
            cwd=folder,
            guard=self.guard,
        )


NO_EXTRAS = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"
"""With this variable, the CLI calls nothing but the Messages API, and the server of its login."""


def hermetic_environment(base: Mapping[str, str], home: Path, upstream: str) -> dict[str, str]:
    """Return an environment in which the CLI sees no login, no settings and only `upstream`."""
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
    return {
        **{name: base[name] for name in kept if name in base},
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_BASE_URL": upstream,
        # Any token works; with one, the CLI behaves as with a subscription.
        OAUTH_TOKEN: "simulated",
        "DISABLE_TELEMETRY": "1",
        NO_EXTRAS: "1",
    }


def cut_off(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a hermetic environment in which the CLI does all that it does for a user.

    Of the hosts that it calls then, it reaches the one on loopback only.
    """
    there = {name: value for name, value in environment.items() if name != NO_EXTRAS}
    return {**there, "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
