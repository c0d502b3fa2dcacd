"""Tells other servers whether they use the same account, without saying which."""

from __future__ import annotations

import hashlib

from bridge.core.claude.processes.account import AccountFile
from bridge.core.claude.processes.environment import PROVIDER_SWITCHES
from bridge.core.claude.processes.launch import API_KEY, AUTH_TOKEN, OAUTH_TOKEN, Launcher


class AccountFingerprint:
    """Identifies the account that a launcher's processes use."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._file = AccountFile(launcher.environment)

    def value(self) -> str:
        """Return a hash, which changes with a new login; empty if the account is not known.

        It is not known of cloud providers, nor if a command of the operator's settings returns
        keys. The hash is of a random secret or of random ids: these cannot be found by guessing.
        """
        settings = self._launcher.user_settings
        environment = {**self._launcher.environment, **settings.environment}
        if "apiKeyHelper" in settings.login or any(map(environment.get, PROVIDER_SWITCHES)):
            return ""
        names = (*((API_KEY,) if self._launcher.use_api_key else ()), AUTH_TOKEN, OAUTH_TOKEN)
        secrets = ((name, environment[name]) for name in names if environment.get(name))
        kind, account = next(secrets, ("login", self._file.id()))
        if not account:
            return ""
        parts = (kind, account, environment.get("ANTHROPIC_BASE_URL", ""))
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
