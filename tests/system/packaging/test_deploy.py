"""The files in deploy/ and the Dockerfile, as far as they can be run without Docker."""

from __future__ import annotations

import configparser
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.server.settings import Settings
from tests.support.harness import PATIENCE, RunningBridge
from tests.support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
NONE_GIVEN: dict[str, Any] = {}
DEFAULTS = Settings(**NONE_GIVEN)
UNIT_FILE = ROOT / "deploy" / "claude-code-bridge.service"

CLAUDE_CODES_OWN = {"CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"}


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT_FILE)
    return parser


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def healthcheck() -> list[str]:
    match = re.search(r"HEALTHCHECK [^\n]*\n\s+CMD (\[[^\n]*\])", DOCKERFILE)
    assert match is not None
    command: list[str] = json.loads(match[1])
    return command


def check_health(port: int) -> subprocess.CompletedProcess[str]:
    _, *arguments = healthcheck()
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_health_check_passes_while_the_bridge_is_well(bridge: RunningBridge) -> None:
    assert healthcheck()[0] == "python"
    result = check_health(bridge.bridge.http_port)
    assert result.returncode == 0, result.stderr


def test_the_health_check_fails_where_nothing_serves() -> None:
    # The port of the discard service, which no machine has had for decades.
    assert check_health(9).returncode != 0


def test_what_the_image_is_built_from_builds_a_wheel(tmp_path: Path) -> None:
    context = tmp_path / "context"
    for name in _build_context():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, context / name)
    assert (context / "requirements" / "runtime.lock").is_file()
    assert not (context / "tests").exists()

    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--wheel-dir", str(tmp_path), str(context)),
        ],
        check=True,
        timeout=PATIENCE,
    )
    assert list(tmp_path.glob("*.whl"))


def _build_context() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().split()
    kept = [line[1:] for line in lines if line.startswith("!")]
    dropped = [line for line in lines if not line.startswith("!") and line != "*"]
    assert lines[0] == "*"
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-coz", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [
        name
        for name in filter(None, listing.split("\0"))
        if any(name == keep or name.startswith(f"{keep}/") for keep in kept)
        and not any(fnmatch.fnmatch(name, drop) for drop in dropped)
        and (ROOT / name).is_file()
    ]


def test_the_image_runs_as_an_ordinary_user_and_serves_both_apis() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER bridge$", last, re.MULTILINE)
    assert '["bridge", "serve", "--grpc", "--http"]' in last
    assert f"EXPOSE {DEFAULTS.port} {DEFAULTS.grpc_port}" in last


def test_what_is_mounted_belongs_to_the_user_of_the_image() -> None:
    match = re.search(r"^VOLUME (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert match is not None
    volumes = json.loads(match[1])
    made = re.search(
        r"mkdir -p -m 700 (.+?) \\\n && chown -R bridge:bridge /home/bridge\n", DOCKERFILE
    )
    assert made is not None
    assert made[1].split() == volumes
    assert DOCKERFILE.index(made[0]) < DOCKERFILE.index("USER bridge")
    state = DEFAULTS.bridge_state_dir.relative_to(Path.home())
    assert f"/home/bridge/{state}" in volumes
    mounted = {mount.split(":")[-1] for mount in COMPOSE["services"]["bridge"]["volumes"]}
    assert mounted == set(volumes)


def test_compose_sets_what_the_bridge_knows() -> None:
    bridge = COMPOSE["services"]["bridge"]
    known = {name.upper() for name in Settings.model_fields} | CLAUDE_CODES_OWN
    assert set(bridge["environment"]) <= known


def test_compose_publishes_on_this_machine_only() -> None:
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_gives_open_webui_the_key_and_the_name_that_the_bridge_expects() -> None:
    bridge = COMPOSE["services"]["bridge"]["environment"]
    webui = COMPOSE["services"]["open-webui"]["environment"]
    assert "${BRIDGE_KEY:" in bridge["BRIDGE_API_KEYS"]
    assert webui["OPENAI_API_KEY"] == "${BRIDGE_KEY}"
    assert webui["OPENAI_API_BASE_URL"] == "http://bridge:8000/v1"
    assert bridge["BRIDGE_ALLOWED_HOSTS"] == "bridge"


def test_both_give_the_drain_its_time() -> None:
    drain = DEFAULTS.bridge_drain_delay + DEFAULTS.bridge_drain_seconds
    assert seconds(COMPOSE["services"]["bridge"]["stop_grace_period"]) > drain
    assert seconds(unit()["Service"]["TimeoutStopSec"]) > drain


def test_the_unit_starts_what_there_is() -> None:
    command = shlex.split(unit()["Service"]["ExecStart"])
    assert command[0] == "%h/.local/bin/bridge"
    help_of_it = subprocess.run(
        [sys.executable, "-m", "bridge", command[1], "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
    ).stdout
    for option in command[2:]:
        assert option in help_of_it


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    home = tmp_path / "home"
    command = home / ".local" / "bin" / "bridge"
    command.parent.mkdir(parents=True)
    command.symlink_to(sys.executable)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(UNIT_FILE)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    ours = [line for line in result.stderr.splitlines() if UNIT_FILE.name in line]
    assert ours == []
    assert result.returncode == 0, result.stderr
