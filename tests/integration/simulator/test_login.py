"""Logins of the real CLI against the simulator's accounts: refreshed, refused, revoked, little."""

import asyncio
import json
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import claude_agent_sdk as sdk
import pytest

from bridge.simulator import Exchange, Simulator
from bridge.simulator.proxy import Proxy
from tests.support.certificates import certificate

BINARY = Path(sdk.__file__).parent / "_bundled" / "claude"
pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="the SDK came without its binary")

SCOPES = ["user:inference", "user:profile"]
HOSTS = ("platform.claude.com", "api.anthropic.com")


def ask(
    home: Path, accounts: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[Exchange, ...], list[str]]:
    """One `claude -p`; its result, what came upstream, and which hosts it asked of the proxy."""
    authority = certificate("authority")
    trusted, _ = authority.write(home, "authority")
    pair = certificate(HOSTS[0], also=HOSTS, signed_by=authority).write(home, "leaf")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)

    async def main() -> tuple[dict[str, Any], tuple[Exchange, ...], list[str]]:
        async with (
            Simulator(pace_ms=0, accounts=accounts) as simulator,
            Proxy(simulator.port, context) as proxy,
        ):
            clean = {
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "ANTHROPIC_BASE_URL": simulator.base_url,
                "HTTPS_PROXY": proxy.url,
                "NO_PROXY": "127.0.0.1",
                "NODE_EXTRA_CA_CERTS": str(trusted),
                "DISABLE_TELEMETRY": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                **environment,
            }
            options = ["-p", "Hello", "--output-format", "json", "--tools", ""]
            process = await asyncio.create_subprocess_exec(
                str(BINARY),
                *options,
                env=clean,
                cwd=home,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(180):
                    out, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            return json.loads(out), simulator.ledger.exchanges(), proxy.hosts

    return asyncio.run(main())


def login(home: Path, *, seconds_left: int) -> None:
    """A login as the CLI keeps it, with a token that expires so soon."""
    folder = home / ".claude"
    folder.mkdir()
    kept = {
        "accessToken": "token-old",
        "refreshToken": "refresh-old",
        "expiresAt": int((time.time() + seconds_left) * 1000),
        "scopes": SCOPES,
        "subscriptionType": "max",
    }
    (folder / ".credentials.json").write_text(json.dumps({"claudeAiOauth": kept}))


def test_an_expired_login_is_refreshed(tmp_path: Path) -> None:
    login(tmp_path, seconds_left=-60)
    accounts = {
        "accounts": {"token-new": "everything"},
        "refresh_tokens": {"refresh-old": "token-new"},
    }
    result, exchanges, hosts = ask(tmp_path, accounts, {})
    assert not result["is_error"], result
    assert "platform.claude.com:443" in hosts
    assert {(e.credential, e.status) for e in exchanges} == {("token-new", 200)}


def test_a_refresh_that_is_refused_ends_the_login(tmp_path: Path) -> None:
    login(tmp_path, seconds_left=5 * 3600)
    accounts = {"accounts": {"token-old": {"failure": "expired"}}}
    result, exchanges, hosts = ask(tmp_path, accounts, {})
    assert result["is_error"], result
    assert "platform.claude.com:443" in hosts
    assert {(e.credential, e.status) for e in exchanges} == {("token-old", 401)}
    kept = json.loads((tmp_path / ".claude" / ".credentials.json").read_text())
    assert kept["claudeAiOauth"]["refreshToken"] == ""


@pytest.mark.parametrize(
    ("account", "status"),
    [({"failure": "revoked"}, 403), ("nothing", 400), ({"failure": "long_context"}, 429)],
)
def test_what_the_account_is_refused_reaches_the_caller(
    tmp_path: Path, account: object, status: int
) -> None:
    accounts = {"accounts": {"token": account}}
    environment = {"CLAUDE_CODE_OAUTH_TOKEN": "token", "CLAUDE_CODE_MAX_RETRIES": "0"}
    result, exchanges, _ = ask(tmp_path, accounts, environment)
    assert result["is_error"], result
    assert result["api_error_status"] == status
    assert {(e.credential, e.status) for e in exchanges} == {("token", status)}


def test_the_cli_gets_by_with_little(tmp_path: Path) -> None:
    accounts = {"accounts": {"token": "little"}}
    result, exchanges, _ = ask(tmp_path, accounts, {"CLAUDE_CODE_OAUTH_TOKEN": "token"})
    assert not result["is_error"], result
    assert {e.status for e in exchanges} == {200}
