"""The environment of a payer's processes: its own credential, and none of any other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bridge.core.claude.processes.environment import PROVIDER_SWITCHES
from bridge.core.claude.processes.launch import API_KEY, AUTH_TOKEN, OAUTH_TOKEN
from bridge.core.claude.processes.user_settings import UserSettings
from bridge.core.contract import PayerKind

_FOREIGN: Final = frozenset(
    {
        *PROVIDER_SWITCHES,
        *(API_KEY, AUTH_TOKEN, OAUTH_TOKEN),
        *("ANTHROPIC_PROFILE", "ANTHROPIC_UNIX_SOCKET"),
        *("ANTHROPIC_IDENTITY_TOKEN", "ANTHROPIC_IDENTITY_TOKEN_FILE"),
        *("CLAUDE_CODE_OAUTH_REFRESH_TOKEN", "CLAUDE_CODE_OAUTH_SCOPES"),
        *("CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR", "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR"),
        *("CLAUDE_CODE_GATEWAY_TOKEN_FILE_DESCRIPTOR", "CLAUDE_CODE_SESSION_ACCESS_TOKEN"),
    }
)
"""Variables by which Claude Code would use another account than the payer's."""

_SWITCHES: Final[Mapping[PayerKind, str]] = MappingProxyType(
    {
        PayerKind.BEDROCK: "CLAUDE_CODE_USE_BEDROCK",
        PayerKind.VERTEX: "CLAUDE_CODE_USE_VERTEX",
        PayerKind.FOUNDRY: "CLAUDE_CODE_USE_FOUNDRY",
    }
)
_HELPERS: Final[Mapping[PayerKind, frozenset[str]]] = MappingProxyType(
    {
        PayerKind.BEDROCK: frozenset({"awsAuthRefresh", "awsCredentialExport"}),
        PayerKind.VERTEX: frozenset({"gcpAuthRefresh"}),
    }
)
"""Login commands of the operator's settings that a cloud provider's payer uses."""


@dataclass(frozen=True, slots=True)
class Credential:
    """How the processes of a payer log in."""

    kind: PayerKind
    folder: Path | None = None
    """Their CLAUDE_CONFIG_DIR; None is the operator's own."""
    secret: str = ""
    """The token or the API key."""

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of its processes, from the server's own."""
        if self.kind is PayerKind.LOGIN and self.folder is None:
            return {name: value for name, value in own.items() if name != API_KEY}
        env = {name: value for name, value in own.items() if name not in _FOREIGN}
        if self.folder is not None:
            env["CLAUDE_CONFIG_DIR"] = str(self.folder)
        if self.kind is PayerKind.TOKEN:
            env[OAUTH_TOKEN] = self.secret
        elif self.kind is PayerKind.API_KEY:
            env[API_KEY] = self.secret
        elif self.kind in _SWITCHES:
            env[_SWITCHES[self.kind]] = "1"
        return env

    def settings(self, own: UserSettings) -> UserSettings:
        """Return the part of the operator's settings that applies to its processes.

        Unless they are those of a login: without commands and variables that log in with something
        else.
        """
        if self.kind is PayerKind.LOGIN:
            return replace(
                own, environment={n: v for n, v in own.environment.items() if n != API_KEY}
            )
        helpers = {"proxyAuthHelper", *_HELPERS.get(self.kind, ())}
        return replace(
            own,
            login={name: value for name, value in own.login.items() if name in helpers},
            environment={n: value for n, value in own.environment.items() if n not in _FOREIGN},
        )
