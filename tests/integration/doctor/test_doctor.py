"""`bridge doctor`: each judgement by what was seen, and the command as a program."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk._cli_version import __cli_version__ as bundled_version

from bridge.core.claude import ControlError, ProcessGoneError
from bridge.core.contract.states import Health, HealthStatus
from bridge.doctor.findings import (
    PROCESS_BYTES,
    TESTED,
    Finding,
    Mark,
    Reply,
    certificate_finding,
    cli_finding,
    disk_finding,
    login_finding,
    memory_finding,
    not_started,
    port_finding,
    probe_finding,
    python_finding,
    settings_finding,
    socket_finding,
)
from bridge.doctor.listening import health_said, listening_findings
from bridge.doctor.machine import available_memory
from bridge.probe import ProbeError, Report
from bridge.probe.behaviours import BEHAVIOURS
from tests.support.certificates import certificate
from tests.support.harness import LONG, PATIENCE, RunningBridge, settings_for_tests


def test_the_version_that_counts_as_tested_is_the_one_that_the_tests_run() -> None:
    assert bundled_version == TESTED.cli
    assert version("claude-agent-sdk") == TESTED.sdk


@pytest.mark.parametrize(
    ("version", "platform", "mark"),
    [
        ((3, 11, 0), "linux", Mark.GOOD),
        ((3, 15, 1), "darwin", Mark.GOOD),
        ((3, 10, 9), "linux", Mark.BAD),
        ((3, 12, 0), "win32", Mark.BAD),
    ],
)
def test_python(version: tuple[int, ...], platform: str, mark: Mark) -> None:
    finding = python_finding(version, platform)
    assert finding.mark is mark
    assert bool(finding.remedy) is (mark is not Mark.GOOD)


def test_the_settings() -> None:
    assert settings_finding().mark is Mark.GOOD
    changed = settings_finding({"pool_size", "port"})
    assert (changed.mark, changed.found) == (
        Mark.GOOD,
        "set: POOL_SIZE, PORT; others at defaults",
    )
    slip = settings_finding(unknown=["BRIDGE_STRIKT is none."])
    assert (slip.mark, slip.remedy) == (Mark.WARNING, "BRIDGE_STRIKT is none.")
    wrong = settings_finding(wrong=["PORT is 'x'."])
    assert (wrong.mark, wrong.found) == (Mark.BAD, "PORT is 'x'.")


@pytest.mark.parametrize(
    ("version", "mark"), [(TESTED.cli, Mark.GOOD), ("9.9.9", Mark.WARNING), ("", Mark.BAD)]
)
def test_claude_code(version: str, mark: Mark) -> None:
    finding = cli_finding(Path("/claude"), version)
    assert finding.mark is mark
    assert bool(finding.remedy) is (mark is not Mark.GOOD)


def health(**changes: Any) -> Health:
    base: dict[str, Any] = {
        "status": HealthStatus.OK,
        "logged_in": True,
        "account": "x",
        "cli_version": "",
    }
    return Health(**{**base, **changes})


def test_the_login() -> None:
    plan = login_finding(health(subscription="Claude Max"))
    assert plan.mark is Mark.GOOD
    assert "Claude Max" in plan.found
    none = login_finding(health(logged_in=False, account="none"))
    assert none.mark is Mark.BAD
    for way in ("bridge login", "CLAUDE_CODE_OAUTH_TOKEN", "--demo"):
        assert way in none.remedy
    key = login_finding(health(account="ANTHROPIC_API_KEY"), uses_key=True)
    assert key.mark is Mark.WARNING
    assert "ANTHROPIC_API_KEY" in key.remedy


def test_the_probe() -> None:
    held = {behaviour.id: True for behaviour in BEHAVIOURS}
    assert probe_finding(Report("1", held)).mark is Mark.GOOD
    replaceable = next(b for b in BEHAVIOURS if not b.required)
    lacking = probe_finding(Report("1", {**held, replaceable.id: False}))
    assert lacking.mark is Mark.WARNING
    assert replaceable.id in lacking.found
    needed = next(b for b in BEHAVIOURS if b.required)
    missing = probe_finding(Report("1", {**held, needed.id: False}))
    assert missing.mark is Mark.BAD
    assert needed.sentence in missing.found


@pytest.mark.parametrize(
    ("port", "problem", "bridge", "mark", "said"),
    [
        (8000, None, None, Mark.GOOD, "free"),
        (0, None, None, Mark.GOOD, "any"),
        (8000, errno.EADDRINUSE, " (1.0, ok)", Mark.GOOD, "a running bridge (1.0, ok)"),
        (8000, errno.EADDRINUSE, None, Mark.BAD, "another program"),
        (80, errno.EACCES, None, Mark.BAD, "root privileges"),
        (8000, errno.EADDRNOTAVAIL, None, Mark.BAD, "is not available"),
    ],
)
def test_a_port(port: int, problem: int | None, bridge: str | None, mark: Mark, said: str) -> None:
    finding = port_finding("http port", "PORT", "127.0.0.1", port, problem, Reply(bridge))
    assert finding.mark is mark
    assert said in finding.found
    assert bool(finding.remedy) is (mark is Mark.BAD)


def test_a_port_that_could_not_be_asked_is_not_called_another_programs() -> None:
    reply = Reply(tls_problem="TLS failed (wrong version number)")
    port = port_finding("http port", "PORT", "::1", 8000, errno.EADDRINUSE, reply)
    uds = socket_finding("http port", "BRIDGE_UDS", Path("/s"), "is listened on", reply)
    for finding in (port, uds):
        assert finding.mark is Mark.WARNING
        assert "another program" not in finding.found
        assert "wrong version number" in finding.found
        assert "BRIDGE_TLS_CERT" in finding.remedy


def test_a_certificate_that_ends_soon_is_a_warning() -> None:
    assert certificate_finding(100 * 86_400, 0).mark is Mark.GOOD
    soon = certificate_finding(86_400, 0)
    assert (soon.mark, soon.found) == (Mark.WARNING, "expires on 1970-01-02 00:00 UTC")


@pytest.mark.parametrize(
    "error",
    [ProcessGoneError(), ControlError("x"), ProbeError("x"), PermissionError(13, "Not allowed")],
)
def test_no_class_is_named_where_claude_code_does_not_start(error: Exception) -> None:
    said = not_started(error)
    assert said.startswith("Claude Code ")
    assert type(error).__name__ not in said
    assert isinstance(error, PermissionError) == ("Not allowed" in said)


@pytest.mark.parametrize("mine", [True, False])
def test_a_bridge_with_another_certificate_is_no_other_program(
    tmp_path: Path, start_bridge: Callable[..., RunningBridge], mine: bool
) -> None:
    served = certificate("bridge", also=("127.0.0.1",)).write(tmp_path, "served")
    known = certificate("bridge", also=("127.0.0.1",)).write(tmp_path, "known")
    bridge = start_bridge(bridge_tls_cert=served[0], bridge_tls_key=served[1])
    cert, key = served if mine else known
    settings = settings_for_tests(
        tmp_path,
        port=bridge.bridge.http_port,
        grpc_port=bridge.bridge.grpc_port,
        bridge_tls_cert=cert,
        bridge_tls_key=key,
    )

    async def listened() -> list[Finding]:
        return [finding async for finding in listening_findings(settings)]

    lasts, *ports = bridge.call(listened)
    assert (lasts.check, lasts.mark) == ("certificate", Mark.WARNING)
    for port in ports:
        assert port.mark is (Mark.GOOD if mine else Mark.WARNING)
        assert (
            "served by a running bridge" if mine else "certificate is not trusted"
        ) in port.found


def test_a_bridge_is_recognised_by_the_little_it_reports_without_a_key() -> None:
    ours = {"openai-version": "2020-10-01", "x-request-id": "req_1"}
    assert health_said({"status": "ok"}, ours) == " (ok)"
    for health, headers in (({"status": "ok"}, {}), ({"well": True}, ours)):
        with pytest.raises(KeyError):
            health_said(health, headers)


def test_the_disk(tmp_path: Path) -> None:
    settings = settings_for_tests(tmp_path)
    assert disk_finding(settings, True, 10**10).mark is Mark.GOOD
    assert disk_finding(settings, True, 10**6).mark is Mark.WARNING
    assert disk_finding(settings, False, 10**10).mark is Mark.BAD


def test_the_memory() -> None:
    assert memory_finding(3, 6, None).mark is Mark.GOOD
    assert memory_finding(3, 6, 6 * PROCESS_BYTES).mark is Mark.GOOD
    short = memory_finding(3, 6, 6 * PROCESS_BYTES - 1)
    assert short.mark is Mark.WARNING
    assert "POOL_SIZE" in short.remedy
    assert memory_finding(3, 6, PROCESS_BYTES - 1).mark is Mark.BAD


def test_memory_is_what_the_machine_and_the_container_leave(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  5000 kB\n")
    assert available_memory(tmp_path) == 5000 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) == 5000 * 1024
    (group / "memory.max").write_text("3000\n")
    assert available_memory(tmp_path) == 2000


def doctor(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it, with what the first probe keeps in place."""
    state = home / "state"
    state.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "bridge", "doctor", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "BRIDGE_STATE_DIR": str(state),
            "DISABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "PORT": "0",
            "GRPC_PORT": "0",
            **env,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


CHECKS = [
    "python",
    "settings",
    "claude",
    "login",
    "probe",
    "http port",
    "grpc port",
    "disk",
    "memory",
]


def test_all_is_well_in_a_demo_beside_a_bridge_that_runs(
    tmp_path: Path, bridge: RunningBridge
) -> None:
    ports = {"PORT": bridge.url.rpartition(":")[2], "GRPC_PORT": bridge.target.partition(":")[2]}
    result = doctor(tmp_path, "--demo", "--live", "--json", **ports)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert report["ok"] is True
    found = {check["check"]: check for check in report["checks"]}
    assert list(found)[: len(CHECKS) + 1] == [*CHECKS, "system"]
    assert list(found)[-2:] == ["limits", "cost"]
    for port in ("http port", "grpc port"):
        assert found[port]["facts"]["bridge"] is True
    assert found["http port"]["found"].endswith("ok)")
    times = found["system"]["facts"]
    assert times["model"].startswith("claude-")
    assert times["ready_seconds"] > 0
    assert 0 < times["first_token_seconds"] <= times["total_seconds"]


def test_what_is_not_well_is_marked_with_what_to_do_and_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        # The server there closes the connection.
        hanging_up = threading.Thread(target=lambda: other.accept()[0].close())
        hanging_up.start()
        result = doctor(tmp_path, PORT=str(other.getsockname()[1]), BRIDGE_STRIKT="1")
        hanging_up.join(PATIENCE)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    marks = {line[2:13].strip(): line[0] for line in lines if line[:1] in "✓!✗+x"}
    assert list(marks) == CHECKS
    assert marks["python"] == "✓"
    assert marks["settings"] == "!"
    assert "Did you mean BRIDGE_STRICT?" in lines[2]
    assert marks["login"] == marks["http port"] == "✗"
    assert "bridge login" in lines[lines.index(next(li for li in lines if "login" in li)) + 1]
    assert result.stderr == ""


@LONG
def test_settings_that_cannot_be_used_are_a_finding_for_programs_too(tmp_path: Path) -> None:
    result = doctor(tmp_path, "--json", PORT="http", BRIDGE_API_KEYS="short")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert [check["check"] for check in report["checks"]] == ["python", "settings"]
    port, keys = report["checks"][1]["facts"]["wrong"]
    assert port.startswith("PORT (--port) is 'http'")
    assert keys.startswith("BRIDGE_API_KEYS: key number 1 needs a secret")
