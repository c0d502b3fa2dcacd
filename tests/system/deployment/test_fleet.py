"""The files of a fleet: the tools that run them accept them, and they agree with each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from bridge.core.contract.errors import DrainingError, QueueFullError
from bridge.server.settings import Settings
from tests.support.harness import PATIENCE
from tests.support.paths import ROOT
from tests.system.deployment.tools import docker_compose, envoy, program

DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = DEPLOY / "compose" / "fleet.yaml"
FLEET: Final[dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())
PROXY: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "envoy" / "fleet.yaml").read_text())
CLUSTERS: Final = {one["name"]: one for one in PROXY["static_resources"]["clusters"]}
REPLICAS: Final = [name for name in FLEET["services"] if name.startswith("bridge-")]
SECRETS: Final = {
    "claude_token": "sk-ant-oat01-token",
    "bridge_key": "a-key-of-the-owner",
    "monitor_key": "a-key-for-prometheus",
    "redis_password": "not-a-good-password",
    "grafana_password": "neither-is-this-one",
}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder with the secrets of the fleet."""
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(f"{text}\n")
    return tmp_path


def endpoints(cluster: str) -> list[tuple[str, str, int]]:
    """Each replica of a cluster: its hostname, address and port."""
    (locality,) = CLUSTERS[cluster]["load_assignment"]["endpoints"]
    found = [entry["endpoint"] for entry in locality["lb_endpoints"]]
    addresses = [endpoint["address"]["socket_address"] for endpoint in found]
    return [
        (endpoint["hostname"], address["address"], address["port_value"])
        for endpoint, address in zip(found, addresses, strict=True)
    ]


@pytest.mark.parametrize("name", ["envoy.yaml", "fleet.yaml"])
def test_envoy_accepts_its_files(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "envoy" / name).read_text()
    # A certificate and the descriptors, which only a machine that is set up has.
    made = (
        text.replace("/etc/ssl/bridge.pem", f"{tmp_path}/pem")
        .replace("/etc/ssl/bridge.key", f"{tmp_path}/key")
        .replace("/etc/envoy/bridge.binpb", str(ROOT / "bridge" / "v1" / "bridge.binpb"))
    )
    if made != text:
        _certificate(tmp_path)
    (tmp_path / name).write_text(made)
    done = subprocess.run(
        [envoy(), "--mode", "validate", "-c", tmp_path / name],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[warning]" not in done.stderr, done.stderr


def _certificate(folder: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bridge"),
            *("-out", folder / "pem", "-keyout", folder / "key"),
        ],
        capture_output=True,
        check=True,
    )


def test_both_apis_have_the_same_replicas_by_the_same_names() -> None:
    for cluster, port in (("bridge_http", 8000), ("bridge_grpc", 50051)):
        assert endpoints(cluster) == [(name, name, port) for name in REPLICAS]
    assert len(REPLICAS) == 3


def test_what_is_sent_again_is_what_another_replica_may_answer() -> None:
    (listener,) = PROXY["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    policy = host["retry_policy"]
    safe = {"connect-failure", "refused-stream", "reset-before-request", "retriable-headers"}
    assert set(policy["retry_on"].split(",")) == safe
    headers = policy["retriable_headers"]
    assert {header["name"] for header in headers} == {"x-bridge-error"}
    named = [header["string_match"]["exact"] for header in headers]
    table = re.findall(
        r"^\| (`[A-Z].*?) \|", (ROOT / "docs" / "proxies.md").read_text(), re.MULTILINE
    )
    assert sorted(named) == sorted(re.findall("`([A-Z_]+)`", "".join(table)))
    assert {DrainingError.reason, QueueFullError.reason} < set(named)
    # What one of them has is found.
    assert policy["num_retries"] == len(REPLICAS) - 1


def test_a_draining_replica_is_left_out_before_it_refuses_requests() -> None:
    delay = float(FLEET["x-bridge-environment"]["BRIDGE_DRAIN_DELAY"])
    for cluster in CLUSTERS.values():
        (check,) = cluster["health_checks"]
        # With no traffic, too.
        assert check["no_traffic_interval"] == check["interval"]
        interval, timeout = (float(check[key].rstrip("s")) for key in ("interval", "timeout"))
        assert interval + timeout < delay


def test_stopping_takes_longer_than_the_drain() -> None:
    delay = float(FLEET["x-bridge-environment"]["BRIDGE_DRAIN_DELAY"])
    drain = Settings.model_fields["bridge_drain_seconds"].default
    assert float(FLEET["x-bridge"]["stop_grace_period"].rstrip("s")) > delay + drain + 5


def test_docker_compose_accepts_the_file(secrets: Path) -> None:
    done = subprocess.run(
        [docker_compose(), "-f", COMPOSE, "config", "--format", "json"],
        env={**os.environ, "SECRETS": str(secrets)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    services = json.loads(done.stdout)["services"]
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name
        assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$|:fleet$", service["image"]), name
        # Secrets are files, not variables.
        assert not any(
            text in json.dumps(service.get("environment", {})) for text in SECRETS.values()
        )
        for mount in service.get("volumes", ()):
            assert mount["type"] == "volume" or Path(mount["source"]).exists(), mount


def test_the_replicas_are_told_what_they_know() -> None:
    known = {name.upper() for name in Settings.model_fields} | {"CLAUDE_CONFIG_DIR"}
    for name in REPLICAS:
        environment = FLEET["services"][name]["environment"]
        assert set(environment) <= known
        assert environment["BRIDGE_REPLICA"] == name
        assert name in environment["BRIDGE_ALLOWED_HOSTS"].split(",")


def test_a_replica_reads_its_secrets_from_files(secrets: Path) -> None:
    *shell, script = FLEET["x-bridge"]["command"]
    here = script.replace("$$", "$").replace("/run/secrets", str(secrets))
    assert "exec bridge serve --grpc --http" in here
    shown = subprocess.run(
        [*shell, here.replace("exec bridge serve --grpc --http", "exec env")],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    given = dict(line.split("=", 1) for line in shown.splitlines())
    assert given["CLAUDE_CODE_OAUTH_TOKEN"] == SECRETS["claude_token"]
    settings: dict[str, Any] = {
        name.lower(): value for name, value in given.items() if name.startswith("BRIDGE_")
    }
    keys = Settings(**settings).bridge_api_keys
    assert {key.name for key in keys} == {"me", "monitor"}


def test_envoy_is_the_version_that_the_tests_run() -> None:
    lock = (ROOT / "tests" / "system" / "proxies" / "envoy.lock").read_text()
    version = lock.split()[0].partition("==")[2]
    assert FLEET["services"]["envoy"]["image"] == f"envoyproxy/envoy:v{version}"


def test_prometheus_accepts_its_file_and_reads_every_replica(tmp_path: Path) -> None:
    file = DEPLOY / "prometheus" / "prometheus.yaml"
    # Without the files of the secrets.
    command = [program("promtool"), "check", "config", "--syntax-only", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (scrape,) = yaml.safe_load(file.read_text())["scrape_configs"]
    (targets,) = scrape["static_configs"]
    assert targets["targets"] == [f"{name}:8000" for name in REPLICAS]
