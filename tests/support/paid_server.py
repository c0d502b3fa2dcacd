"""A bridge with several payers, each with its own login, token or key at the simulator."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.core.access.keys import KeyFile, KeyUse
from bridge.core.contract.states import PayerKind
from bridge.core.payers.payer import Payer, PayerFile
from bridge.simulator import Exchange, Simulator
from tests.support.harness import PATIENCE, LoopThread
from tests.support.user_server import (
    NOTHING_MORE,
    UserBridge,
    everything_reaches,
    running_simulator,
    user_bridge,
)

LOGIN, TOKEN, KEY = "login-of-mine", "sk-ant-oat01-ci", "sk-ant-api03-team"
CREDENTIALS = {"mine": LOGIN, "ci": TOKEN, "team": KEY}
"""What the upstream calls of each payer bear."""
EVERYTHING = dict.fromkeys(CREDENTIALS.values(), "everything")


def log_in(folder: Path, token: str = LOGIN) -> None:
    """Leave a login in a folder, as Claude Code keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    login = {
        "accessToken": token,
        "refreshToken": "",
        "expiresAt": int((time.time() + 36_000) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    (folder / ".credentials.json").write_text(json.dumps({"claudeAiOauth": login}))


def secret(path: Path, text: str) -> Path:
    """A file that only its owner can read."""
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return path


def payer_named(name: str, home: Path) -> Payer:
    """A payer: a login (mine), one that is logged out (out), a token (ci) or an API key (team)."""
    match name:
        case "mine":
            log_in(home / "mine")
            return Payer(name, PayerKind.LOGIN, home / "mine")
        case "out":
            return Payer(name, PayerKind.LOGIN, home / "out")
        case "ci":
            return Payer(name, PayerKind.TOKEN, secret(home / "ci", TOKEN))
        case _:
            return Payer(name, PayerKind.API_KEY, secret(home / name, KEY))


@dataclass(frozen=True)
class PaidBridge:
    """The bridge, its model's API, and the secrets of its keys by name."""

    bridge: UserBridge
    simulator: Simulator
    home: Path
    keys: Mapping[str, str]

    def post(self, key: str, path: str, body: Mapping[str, Any]) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.keys[key]}"}
        url = f"{self.bridge.url}{path}"
        return httpx.post(url, json=body, headers=headers, timeout=PATIENCE)

    def ask(self, key: str, text: str, model: str = "default", **body: Any) -> httpx.Response:
        asked = {"model": model, "messages": [{"role": "user", "content": text}], **body}
        return self.post(key, "/v1/chat/completions", asked)

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.bridge.url}/health", timeout=PATIENCE).json()
        return found

    def upstream(self, containing: str) -> list[Exchange]:
        return list(self.simulator.ledger.exchanges(containing=containing))

    def credentials(self, containing: str) -> set[str]:
        """What the upstream calls with this text bore."""
        return {exchange.credential for exchange in self.upstream(containing)}

    def records(self) -> list[dict[str, Any]]:
        lines = self.bridge.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def paid_bridge(
    home: Path,
    loop: LoopThread,
    payers: tuple[str, ...],
    uses: Mapping[str, KeyUse],
    *,
    everything: bool = False,
    accounts: Mapping[str, Any] = EVERYTHING,
    **settings: Any,
) -> Iterator[PaidBridge]:
    """Serve with these payers, in order, and with keys of these uses.

    With `everything`, Claude Code calls whatever it calls for a user, and reaches the simulator.
    """
    state = home / "state"
    for name in payers:
        PayerFile(state).add(payer_named(name, home))
    file = KeyFile(state / "keys.json")
    keys = {name: file.add(name, use=use) for name, use in uses.items()}
    with running_simulator(loop) as simulator, pytest.MonkeyPatch.context() as patch:
        simulator.accounts.load({"accounts": {**accounts}})
        patch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        for name in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"):
            patch.delenv(name, raising=False)
        with ExitStack() as stack:
            variables: Mapping[str, str] = NOTHING_MORE
            if everything:
                reached = everything_reaches(simulator, home, loop)
                variables = stack.enter_context(reached)
            bridge = user_bridge(home, loop, simulator, variables, **settings)
            yield PaidBridge(stack.enter_context(bridge), simulator, home, keys)
