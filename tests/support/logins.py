"""A login as a user leaves it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.harness import PATIENCE


def log_in(home: Path, account: str = "one") -> None:
    """Leave what `/login` leaves, and take its lock: running processes write the same file."""
    login = {
        "accessToken": f"simulated-{account}",
        "refreshToken": "simulated",
        "expiresAt": int((time.time() + 3600) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    folder = home / ".claude"
    folder.mkdir(exist_ok=True)
    (folder / ".credentials.json").write_text(json.dumps({"claudeAiOauth": login}))
    file = folder / ".claude.json"
    with _locked(folder / ".claude.json.lock"):
        content = json.loads(file.read_text()) if file.exists() else {}
        content["oauthAccount"] = {"accountUuid": account, "organizationUuid": f"of {account}"}
        file.write_text(json.dumps(content))


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            assert time.monotonic() < until
            time.sleep(0.01)
    try:
        yield
    finally:
        lock.rmdir()
