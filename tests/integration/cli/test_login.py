"""`bridge login` runs the CLI's own login at the user's terminal, and reports what it found."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.core.claude.processes.login import LoginStatus, status_command
from bridge.core.contract.states import PayerKind
from bridge.core.payers.payer import Payer, PayerFile
from bridge.server.launching import bundled_cli
from tests.support.paid_server import KEY, TOKEN, log_in, secret
from tests.support.terminal import at_terminal

STAND_IN = """\
#!/bin/sh
# Logs in like the real CLI: asks for a code at the terminal, and stores a login in its folder.
case "$1 $2" in
"auth login")
    test -t 0 || exit 9
    printf 'Paste the code: '; read -r code
    echo "login:$code:${CLAUDE_CODE_OAUTH_TOKEN-none}:${ANTHROPIC_API_KEY-none}" \
        > "$CLAUDE_CONFIG_DIR/made";;
"setup-token ")
    echo 'Your token: sk-ant-oat01-new';;
"auth status")
    if test -e "$CLAUDE_CONFIG_DIR/made" || test -n "$CLAUDE_CODE_OAUTH_TOKEN"; then
        echo '{"loggedIn": true, "authMethod": "claude.ai", "email": "me@example.org",
            "subscriptionType": "max", "token": "'$CLAUDE_CODE_OAUTH_TOKEN'"}'
    else
        echo '{"loggedIn": false}'
    fi;;
esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    cli = tmp_path / "claude"
    cli.write_text(STAND_IN)
    cli.chmod(0o755)
    (tmp_path / "config").mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CLAUDE_CONFIG_DIR": str(tmp_path / "config"),
        "BRIDGE_CLAUDE_PATH": str(cli),
        "BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_OAUTH_TOKEN": "",
    }


def test_without_a_list_the_operators_own_claude_code_logs_in(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    with at_terminal("login", **environment) as terminal:
        terminal.wait_for("Paste the code: ")
        terminal.type("42")
        terminal.wait_for(r"Logged in \(me@example.org, max, claude.ai\)")
        terminal.wait_for("no restart is needed")
    assert (tmp_path / "config" / "made").read_text().startswith("login:42:")


def test_a_payer_logs_in_in_its_own_folder_with_no_other_credential(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    folder = tmp_path / "mine"
    PayerFile(tmp_path / "state").add(Payer("mine", PayerKind.LOGIN, folder))
    with at_terminal("login", "mine", **environment) as terminal:
        terminal.wait_for("Paste the code: ")
        terminal.type("42")
        terminal.wait_for("Payer mine: Logged in")
    assert (folder / "made").read_text() == "login:42:none:none\n"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_token_is_pasted_and_kept_in_the_payers_file(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    file = secret(tmp_path / "token", TOKEN)
    PayerFile(tmp_path / "state").add(Payer("ci", PayerKind.TOKEN, file))
    with at_terminal("login", "ci", **environment) as terminal:
        terminal.wait_for("Your token: ")
        terminal.wait_for("Paste the token: ")
        terminal.type("sk-ant-oat01-new")
        terminal.wait_for("Payer ci: Logged in")
        # It reads tokens when it starts.
        terminal.wait_for("Restart the server to apply it")
    assert file.read_text() == "sk-ant-oat01-new\n"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("pasted", "said"),
    [
        (KEY, "contains an API key, not a token"),
        ("sk-ant-oat01-new and more", "one secret, in visible ASCII"),
    ],
)
def test_what_is_no_token_does_not_replace_the_present_one(
    tmp_path: Path, environment: Mapping[str, str], pasted: str, said: str
) -> None:
    file = secret(tmp_path / "token", TOKEN)
    PayerFile(tmp_path / "state").add(Payer("ci", PayerKind.TOKEN, file))
    with at_terminal("login", "ci", **environment) as terminal:
        terminal.wait_for("Paste the token: ")
        terminal.type(pasted)
        terminal.wait_for("The payer is unchanged")
        terminal.wait_for(said)
        assert terminal.process.wait(60) == 1
    assert file.read_text().strip() == TOKEN


def test_a_token_without_a_payer_is_left_to_the_user(environment: Mapping[str, str]) -> None:
    with at_terminal("login", "--token", **environment) as terminal:
        terminal.wait_for("Your token: ")
        terminal.wait_for("bridge payers add NAME --token-file FILE")


def test_a_login_that_was_not_made_is_an_error(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    Path(environment["BRIDGE_CLAUDE_PATH"]).write_text("#!/bin/sh\nexit 3\n")
    with at_terminal("login", **environment) as terminal:
        terminal.wait_for("Claude Code ended with status 3")
        assert terminal.process.wait(60) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("login", "team"), "has no login"), (("login", "x"), "The payers are: team")],
)
def test_only_a_subscription_is_logged_in(
    tmp_path: Path, environment: Mapping[str, str], arguments: tuple[str, ...], said: str
) -> None:
    key = secret(tmp_path / "key", KEY)
    PayerFile(tmp_path / "state").add(Payer("team", PayerKind.API_KEY, key))
    with at_terminal(*arguments, **environment) as terminal:
        terminal.wait_for(said)


def test_the_real_cli_reports_a_login_that_it_has(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """The words of `claude auth status`, of which the stand-in's are a copy."""
    log_in(tmp_path / "config")
    own = {n: v for n, v in environment.items() if v and not n.startswith(("BRIDGE_", "ANTHROPIC"))}
    done = subprocess.run(
        status_command(bundled_cli()),
        env={**own, "DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    status = LoginStatus.of(done.stdout)
    assert (status.logged_in, status.subscription) == (True, "max"), done.stdout + done.stderr
    assert LoginStatus.of("no json") == LoginStatus()
