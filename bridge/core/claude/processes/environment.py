"""Selects the environment variables that Claude Code gets. Pure.

A server's environment contains more than Claude Code needs, such as tokens of other programs, which
the commands of its tools could read. So only the variables listed here, and those that the operator
names, are passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_ALWAYS: Final = (
    # Of the system.
    *("HOME", "PATH", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "TMPDIR"),
    *("LANG", "LANGUAGE", "LC_*", "XDG_*"),
    # Access to the API.
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "NODE_USE_SYSTEM_CA"),
    *("NODE_USE_ENV_PROXY", "NODE_TLS_REJECT_UNAUTHORIZED", "API_TIMEOUT_MS"),
    # Claude Code's own: https://code.claude.com/docs/en/env-vars.
    *("ANTHROPIC_*", "CLAUDE_*", "DISABLE_*", "DO_NOT_TRACK", "ENABLE_PROMPT_CACHING_1H*"),
    "OTEL_*",
)

_AWS: Final = ("AWS_*",)
_GOOGLE: Final = (
    *("GOOGLE_*", "GCLOUD_PROJECT", "CLOUDSDK_*", "CLOUD_ML_REGION", "VERTEX_REGION_*"),
    *("GCE_METADATA_*", "METADATA_SERVER_DETECTION", "DETECT_GCP_RETRIES"),
)
_AZURE: Final = (
    *("AZURE_*", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET"),
)

_OF_PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "CLAUDE_CODE_USE_BEDROCK": _AWS,
    "CLAUDE_CODE_USE_MANTLE": _AWS,
    "CLAUDE_CODE_USE_ANTHROPIC_AWS": _AWS,
    "CLAUDE_CODE_USE_VERTEX": _GOOGLE,
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD": _GOOGLE,
    "CLAUDE_CODE_USE_FOUNDRY": _AZURE,
}
"""What a cloud provider's login may need, by the variable that selects the provider."""

PROVIDER_SWITCHES: Final = frozenset(_OF_PROVIDERS)
"""The variables that select a cloud provider."""

OVERRULING: Final = frozenset(
    {
        # They override the effort that a caller requests.
        "CLAUDE_CODE_EFFORT_LEVEL",
        # They change the names or the presence of the caller's tools.
        "CLAUDE_AGENT_SDK_MCP_NO_PREFIX",
        "CLAUDE_CODE_COORDINATOR_MODE",
        "CLAUDE_CODE_REMOTE",
        # They add text to the conversation.
        "CLAUDE_CODE_ENABLE_TOKEN_USAGE_ATTACHMENT",
        # They prevent an answer.
        "CLAUDE_CODE_BLOCKING_LIMIT_OVERRIDE",
        "CLAUDE_CODE_SIMPLE",
        # The prompt cache's lifetime, which must not be shorter after the bridge's own breakpoint.
        "CLAUDE_CODE_MESSAGES_PROMPT_CACHE_TTL",
        "FORCE_PROMPT_CACHING_5M",
    }
)
"""Never passed on: they override what a request asks for, even if the CLI is told otherwise later.

Measured by setting each variable and comparing the API requests. The others that Claude Code reads
have no effect there, are set again for every turn, or are the operator's choice."""

_PATTERN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


def check_passed(pattern: str) -> str:
    """Return a NAME or PREFIX_* that the operator wants passed on; raises ValueError."""
    if not _PATTERN.fullmatch(pattern):
        raise ValueError(f"{pattern!r} is neither a variable name nor a prefix with *")
    if pattern.startswith("BRIDGE_"):
        raise ValueError(f"{pattern} is set by the bridge itself and is never passed on")
    if pattern in OVERRULING:
        raise ValueError(f"{pattern} would override callers' requests and is never passed on")
    return pattern


def passed_on(environment: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables that Claude Code gets; `more` are NAME or PREFIX_*."""
    chosen = [names for switch, names in _OF_PROVIDERS.items() if environment.get(switch)]
    patterns = (*_ALWAYS, *(name for names in chosen for name in names), *more)
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {
        name: value
        for name, value in environment.items()
        if (name in exact or name.startswith(prefixes))
        and name not in OVERRULING
        and not name.startswith("BRIDGE_")
    }
