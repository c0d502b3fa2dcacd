"""How a CLI process is started: its arguments, its environment and its folder.

Everything that the CLI would do behind a caller's back is turned off here. From the operator's
own settings only the default model and the login remain.
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
from bridge.core.system import OrphanGuard
from bridge.core.validation import BuiltinTools

# Set at the start, because SessionStart hooks have already run when settings come later.
_SETTINGS = {
    "disableAllHooks": True,
    "claudeMdExcludes": ["**"],
    "autoMemoryEnabled": False,
    "outputStyle": "default",
    "language": "",
    # Of no use to a caller, and said to the model where it has a shell.
    "attribution": {"commit": "", "pr": ""},
    "includeGitInstructions": False,
}

_ENVIRONMENT = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "CLAUDE_AGENT_SDK_VERSION": version("claude-agent-sdk"),
    # Its name in the User-Agent of upstream requests: the SDK's `client_app`.
    "CLAUDE_AGENT_SDK_CLIENT_APP": f"claude-code-bridge/{__version__}",
    # A conversation that fills the window ends in an error, not in a silent summary.
    "DISABLE_AUTO_COMPACT": "1",
    # Exactly the caller's tools are offered, none held back behind a search.
    "ENABLE_TOOL_SEARCH": "false",
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
    # A refusal is the answer: it is not asked for again, paid for and unseen.
    "CLAUDE_CODE_DISABLE_REFUSAL_RETRY": "1",
    # A stream that fails before its first block is not asked for once more without streaming:
    # nothing of that second answer would be seen here, and its failures hide the first one's.
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    # It reports how long the API wants it to wait, however long, instead of keeping that to itself
    # beyond a minute. How often and how long it may try again is the bridge's to decide.
    "CLAUDE_CODE_RETRY_WATCHDOG": "1",
    # Descriptions of the caller's tools are not cut.
    "CLAUDE_CODE_MAX_MCP_DESCRIPTION_LENGTH": "10000000",
}

_WITH_TOOLS = (
    # Denied and not asked for, whatever the settings say: there is no user to be asked.
    "--permission-mode=dontAsk",
    "--permission-prompts=none",
    # The file tools keep to the working directory, through links too, and project settings,
    # which a caller could write, are not read.
    "--restricted",
)

# What runs on after the answer would report to the next caller of the process.
_ENVIRONMENT_WITH_TOOLS = {"CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1"}

LONGEST_VARIABLE = 100_000
"""Bytes of an environment variable that a command can be started with: Linux takes 131,072."""

API_KEY = "ANTHROPIC_API_KEY"
AUTH_TOKEN = "ANTHROPIC_AUTH_TOKEN"
_OTHER_PROVIDERS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")


@dataclass(frozen=True, slots=True)
class Launcher:
    """What every CLI process of a server has in common."""

    cli: Path
    environment: Mapping[str, str]
    """The server's own environment, or a hermetic one."""
    folder: Path
    """The processes' working directory: neutral, since the CLI names it to the model, and not used
    where `builtin_tools` names one."""
    setting_sources: Sequence[str] = ()
    """Settings files that the CLI reads and applies whole: `project` and `local`, those of
    `folder`. The operator's own are never among them."""
    user_settings: UserSettings = NOTHING
    """What of the operator's own settings holds."""
    builtin_tools: BuiltinTools | None = None
    """Claude Code's own tools that are on; None is none of them."""
    telemetry: Mapping[str, str] = field(default_factory=dict)
    """Variables that have the CLI trace what it does."""
    use_api_key: bool = False
    """Whether ANTHROPIC_API_KEY is passed on: the CLI bills it even where there is a login."""
    guard: OrphanGuard | None = None
    """Ends the processes if the server is killed."""

    @property
    def has_api_key(self) -> bool:
        """Whether there is an API key that could be used."""
        return bool(self.environment.get(API_KEY))

    @property
    def cache_ttl(self) -> str | None:
        """How long the prompt cache keeps a prefix: what the CLI itself chooses by account.

        It is said explicitly, because the API wants the bridge's own breakpoint to live no
        shorter than those the CLI puts after it
        (https://platform.claude.com/docs/en/build-with-claude/prompt-caching). None where
        another provider serves the models: that keeps to rules of its own.
        """
        if any(self.environment.get(name) for name in _OTHER_PROVIDERS):
            return None
        return "5m" if self.use_api_key or self.environment.get(AUTH_TOKEN) else "1h"

    @property
    def longest_variable(self) -> int | None:
        """How long a variable of the CLI's may become, in bytes; None is any length.

        What the CLI starts gets them all: the commands by which the operator logs in, and on macOS
        the one that reads the keychain. With a longer one these fail, and the CLI has no login.
        """
        starts = self.user_settings.login or self.setting_sources or sys.platform == "darwin"
        provided = any(self.environment.get(name) for name in _OTHER_PROVIDERS)
        return LONGEST_VARIABLE if starts or provided else None

    @property
    def cache_control(self) -> dict[str, str] | None:
        """The breakpoint that goes onto the first question of a conversation."""
        return None if self.cache_ttl is None else {"type": "ephemeral", "ttl": self.cache_ttl}

    def restore_folder(self) -> None:
        """Recreate the working directory where it is gone; raises OSError.

        Systems tidy away what has lain in their folder for temporary files for days.
        """
        if self.builtin_tools is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def command(self) -> Command:
        """The command that starts one process."""
        variables = environment_of(TurnSettings())
        env = {
            name: value
            for name, value in self.environment.items()
            # CLAUDECODE would make it believe that it runs inside another Claude Code.
            if not name.startswith("BRIDGE_") and name != "CLAUDECODE"
        }
        if not self.use_api_key:
            env.pop(API_KEY, None)
        if self.cache_ttl is not None:
            env["CLAUDE_CODE_PROMPT_CACHE_TTL"] = self.cache_ttl
        builtin = self.builtin_tools
        if builtin is not None:
            env.update(_ENVIRONMENT_WITH_TOOLS)
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
                # Here and not in the environment, so that they stand over the operator's own.
                json.dumps({**self.user_settings.settings, **_SETTINGS, "env": variables}),
            ),
            env={**env, **_ENVIRONMENT, **self.telemetry, "PWD": str(folder)},
            cwd=folder,
            guard=self.guard,
        )


def hermetic_environment(base: Mapping[str, str], home: Path, upstream: str) -> dict[str, str]:
    """An environment in which the CLI sees no login, no settings and only `upstream`."""
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
    return {
        **{name: base[name] for name in kept if name in base},
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_BASE_URL": upstream,
        # Any token does; with one the CLI behaves as with a subscription.
        "CLAUDE_CODE_OAUTH_TOKEN": "simulated",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
