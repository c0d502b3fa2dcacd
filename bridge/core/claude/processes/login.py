"""The CLI's own commands for its login, and what it reports of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


def login_command(cli: Path, *, token: bool) -> tuple[str, ...]:
    """Return the command by which a user logs in, in a terminal.

    With `token`, it prints a token for a machine without a browser, and stores nothing.
    """
    return (str(cli), "setup-token") if token else (str(cli), "auth", "login")


def status_command(cli: Path) -> tuple[str, ...]:
    """Return the command that reports the login; it sends no request to the model."""
    return (str(cli), "auth", "status", "--json")


@dataclass(frozen=True, slots=True)
class LoginStatus:
    """What the CLI reports of its login."""

    logged_in: bool = False
    method: str = ""
    """How it is logged in, in its own word."""
    email: str = ""
    organization: str = ""
    subscription: str = ""

    @classmethod
    def of(cls, output: str) -> LoginStatus:
        """Parse the output of `status_command`; not logged in if it is no such report."""
        try:
            report = json.loads(output)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(report, dict):
            return cls()

        def text(name: str) -> str:
            value = report.get(name)
            return value if isinstance(value, str) else ""

        return cls(
            report.get("loggedIn") is True,
            text("authMethod"),
            text("email"),
            text("orgName"),
            text("subscriptionType"),
        )
