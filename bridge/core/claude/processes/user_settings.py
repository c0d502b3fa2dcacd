"""The part of the operator's own Claude Code settings that callers get: default model and login.

The CLI is started without user settings, because it would apply all of them: hooks, agents,
permission rules, environment variables. The few that apply are selected here, by name.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_MODEL = "model"

LOGIN_HELPERS = (
    "apiKeyHelper",
    "awsAuthRefresh",
    "awsCredentialExport",
    "forceLoginMethod",
    "forceLoginOrgUUID",
    "gcpAuthRefresh",
    "proxyAuthHelper",
)
"""Settings by which a user logs in. Several are the user's commands, which the CLI runs."""

# https://code.claude.com/docs/en/env-vars: billing and access to the API.
_LOGIN_VARIABLES = re.compile(
    r"""
    ANTHROPIC_(
        API_KEY | AUTH_TOKEN | BASE_URL | UNIX_SOCKET | MODEL | PROFILE
        | (BEDROCK | BEDROCK_MANTLE | VERTEX | FOUNDRY | AWS) _ (BASE_URL | API_KEY | AUTH_TOKEN
            | PROJECT_ID | RESOURCE | REGION | WORKSPACE_ID)
    )
    | CLAUDE_CODE_(
        OAUTH_TOKEN | OAUTH_REFRESH_TOKEN | OAUTH_SCOPES | API_KEY_HELPER_TTL_MS
        | USE_(BEDROCK | VERTEX | FOUNDRY | MANTLE | ANTHROPIC_AWS)
        | SKIP_(BEDROCK | VERTEX | FOUNDRY | MANTLE | ANTHROPIC_AWS)_AUTH
        | CLIENT_(CERT | KEY | KEY_PASSPHRASE) | CERT_STORE
    )
    | AWS_[A-Z0-9_]+ | GOOGLE_(APPLICATION_CREDENTIALS | CLOUD_PROJECT) | GCLOUD_PROJECT
    | CLOUD_ML_REGION | VERTEX_REGION_[A-Z0-9_]+ | AZURE_[A-Z0-9_]+
    | (HTTPS?|NO)_PROXY | (https?|no)_proxy | NODE_EXTRA_CA_CERTS
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class UserSettings:
    """The default model and the login of the operator's settings."""

    model: str | None = None
    login: Mapping[str, str] = field(default_factory=dict)
    """Settings by which the operator logs in, among `LOGIN_HELPERS`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables in the settings' `env` that are part of the login; they override the server's own,
    as in the CLI."""

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings for the CLI's `--settings`."""
        model = {} if self.model is None else {_MODEL: self.model}
        return {**model, **self.login}


NOTHING = UserSettings()


def kept_of(settings: object) -> UserSettings:
    """Select the default model and the login from the JSON of a `settings.json`."""
    if not isinstance(settings, dict):
        return NOTHING
    model, variables = settings.get(_MODEL), settings.get("env")
    return UserSettings(
        model if isinstance(model, str) and model else None,
        _texts(settings, LOGIN_HELPERS),
        {
            name: str(value)
            for name, value in (variables if isinstance(variables, dict) else {}).items()
            if _LOGIN_VARIABLES.fullmatch(name) and isinstance(value, str | int)
        },
    )


def read_user_settings(environment: Mapping[str, str]) -> UserSettings:
    """Read the settings of the user whose environment this is; empty if there is no such file."""
    home = Path(environment.get("HOME") or "~")
    folder = Path(environment.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    path = folder.expanduser() / "settings.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return NOTHING
    except (OSError, ValueError, RecursionError) as error:
        reason = type(error).__name__
        logger.warning("%s cannot be read (%s): its model and login are not used", path, reason)
        return NOTHING
    return kept_of(settings)


def _texts(settings: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    given = {name: settings.get(name) for name in names}
    return {name: value for name, value in given.items() if isinstance(value, str) and value}
