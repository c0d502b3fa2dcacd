"""The Helm chart: Helm accepts it, every manifest fits the schemas of Kubernetes, and the settings
fit the bridge."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from bridge import __version__
from bridge.server.settings import Settings
from tests.clients.programs import libraries
from tests.support.paths import ROOT
from tests.system.deployment.monitoring import DASHBOARD
from tests.system.deployment.tools import helm, kubernetes_schemas, program

CHART: Final = ROOT / "deploy" / "helm" / "claude-code-bridge"
EXAMPLES: Final = CHART.parent / "examples"
RELEASE: Final = "bridge"
NEWEST: Final = "1.37"
OLDEST: Final = "1.29"
REQUIRED: Final[Mapping[str, Any]] = {
    "image": "registry.example.com/bridge:1.0.0",
    "secrets": ["bridge"],
}
EVERYTHING: Final[Mapping[str, Any]] = {
    **REQUIRED,
    "image": "registry.example.com:5000/bridge@sha256:" + "0" * 64,
    "imagePullSecrets": [{"name": "registry"}],
    "replicas": None,
    "poolSize": 16,
    "hosts": ["bridge.example.com", "*.lan"],
    "settings": {"BRIDGE_LOG_FORMAT": "json", "BRIDGE_STRICT": 1},
    "drain": {"delaySeconds": 10, "seconds": 600},
    "stateVolume": {"persistentVolumeClaim": {"claimName": "state"}},
    "service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
    "podAnnotations": {"example.com/team": "search"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "example.com/gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "maxUnavailable": "50%",
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}], "egress": []},
}


def run_helm(*arguments: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    command, *others = arguments
    return subprocess.run(
        [helm(), command, *others, "--values", "-"],
        # A file of values is YAML, and JSON is.
        input=json.dumps(values),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )


def rendered(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The manifests by kind, or by kind and name where there are several."""
    done = run_helm("template", RELEASE, str(CHART), values=values)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = {}
    for manifest in yaml.safe_load_all(done.stdout):
        kind = manifest["kind"]
        name = f"{kind} {manifest['metadata']['name']}" if kind in found else kind
        found[name] = manifest
    return found


def fits(file: Path, version: str) -> subprocess.CompletedProcess[str]:
    """Validate a file of manifests against the schemas of Kubernetes; unknown fields are errors."""
    return subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, file],
        env={**os.environ, "PYTHONPATH": str(kubernetes_schemas())},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("values", [REQUIRED, EVERYTHING], ids=["required", "everything"])
def test_helm_finds_nothing_wrong(values: Mapping[str, Any]) -> None:
    done = run_helm("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout, done.stdout


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", [REQUIRED, EVERYTHING], ids=["required", "everything"])
def test_every_manifest_fits_the_schemas(
    values: Mapping[str, Any], version: str, tmp_path: Path
) -> None:
    manifests = rendered(values)
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests.values()))
    done = fits(file, version)
    # One without a schema would be a warning.
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("INFO") == len(manifests) == 5, done.stdout


def test_a_setting_is_passed_on_as_it_is_written() -> None:
    written = {"A": 1_000_000, "B": 1.5, "C": True, "D": "1e6", "E": 0}
    deployment = rendered({**REQUIRED, "settings": written})["Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert {name: values[name] for name in written} == {
        "A": "1000000", "B": "1.5", "C": "true", "D": "1e6", "E": "0"
    }  # fmt: skip


def test_a_field_that_does_not_exist_is_found(tmp_path: Path) -> None:
    deployment = rendered(REQUIRED)["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
    file = tmp_path / "manifest.yaml"
    file.write_text(yaml.safe_dump(deployment))
    assert fits(file, NEWEST).returncode == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"secrets": ["bridge"]}, "Set image"),
        ({"image": "bridge:1"}, "Set secrets"),
        ({**REQUIRED, "image": "no-tag"}, "image"),
        ({**REQUIRED, "settings": {"BRIDGE_API_KEYS": "secret"}}, "BRIDGE_API_KEYS"),
        ({**REQUIRED, "settings": {"POOL_SIZE": 4}}, "POOL_SIZE"),
        ({**REQUIRED, "replica": 3}, "replica"),
        ({**REQUIRED, "drain": {"delay": 5}}, "delay"),
    ],
)
def test_values_that_are_wrong_are_named(values: Mapping[str, Any], named: str) -> None:
    done = run_helm("template", RELEASE, str(CHART), values=values)
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.parametrize("values", [REQUIRED, EVERYTHING], ids=["required", "everything"])
def test_a_pod_may_do_no_more_than_it_must(values: Mapping[str, Any]) -> None:
    pod = rendered(values)["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = re.search(r"useradd .*--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert user is not None
    assert context["runAsUser"] == context["fsGroup"] == int(user[1])


def test_a_pod_may_take_as_long_as_the_drain() -> None:
    for values in (REQUIRED, EVERYTHING):
        pod = rendered(values)["Deployment"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        given = {one["name"]: one.get("value") for one in container["env"]}
        delay, drain = (float(given[f"BRIDGE_DRAIN_{name}"]) for name in ("DELAY", "SECONDS"))
        assert pod["terminationGracePeriodSeconds"] >= delay + drain + 5
        probe = container["readinessProbe"]
        # The pod is known not to be ready before the bridge refuses requests.
        assert probe["periodSeconds"] * probe["failureThreshold"] <= delay


def test_the_bridge_understands_what_it_is_given() -> None:
    (container,) = rendered(EVERYTHING)["Deployment"]["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value", "a-pod") for one in container["env"]}
    known = {name.upper() for name in Settings.model_fields}
    assert set(given) - known == {"CLAUDE_CONFIG_DIR"}
    arguments: dict[str, Any] = {
        name.lower(): value for name, value in given.items() if name in known
    }
    settings = Settings(**arguments)
    hosts = f"{RELEASE}-claude-code-bridge"
    assert settings.bridge_allowed_hosts[0] == hosts
    assert settings.bridge_allowed_hosts[-2:] == ("bridge.example.com", "*.lan")
    assert settings.pool_size == EVERYTHING["poolSize"]
    folders = [mount["mountPath"] for mount in container["volumeMounts"]]
    for folder in (settings.bridge_state_dir, Path(given["CLAUDE_CONFIG_DIR"]), Path("/tmp")):
        assert any(folder.is_relative_to(mounted) for mounted in folders), folder
    # As the image starts it.
    last = (ROOT / "Dockerfile").read_text().strip().splitlines()[-1]
    assert json.loads(last.removeprefix("CMD ")) == container["args"]


def test_the_services_lead_to_the_pods_and_their_ports() -> None:
    manifests = rendered(REQUIRED)
    template = manifests["Deployment"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    defaults = Settings.model_fields
    assert ports == {"http": defaults["port"].default, "grpc": defaults["grpc_port"].default}
    services = [one for one in manifests.values() if one["kind"] == "Service"]
    assert len(services) == 2
    for service in services:
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        assert {one["targetPort"]: one["port"] for one in service["spec"]["ports"]} == ports
    selectors = (
        manifests["PodDisruptionBudget"]["spec"]["selector"],
        manifests["NetworkPolicy"]["spec"]["podSelector"],
        manifests["Deployment"]["spec"]["selector"],
    )
    for selector in selectors:
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_an_autoscaler_sets_the_replicas_itself() -> None:
    assert "replicas" not in rendered(EVERYTHING)["Deployment"]["spec"]
    assert rendered(REQUIRED)["Deployment"]["spec"]["replicas"] == 2


def test_the_chart_is_of_this_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["version"] == __version__


def examples(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


def test_the_autoscaler_fits_the_schemas_and_the_chart() -> None:
    assert fits(EXAMPLES / "autoscaling.yaml", NEWEST).stdout.count("INFO") == 1
    (scaler,) = examples("autoscaling")
    target = scaler["spec"]["scaleTargetRef"]["name"]
    assert target == rendered(REQUIRED)["Deployment"]["metadata"]["name"]
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in json.dumps(DASHBOARD)


_OTHER_KINDS: Final = {
    "HTTPRoute": "gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
    "GRPCRoute": "gateway-api/gateway.networking.k8s.io/v1/GRPCRoute",
    "PodMonitor": "prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
}


def test_the_other_examples_fit_the_schemas_of_their_kinds(tmp_path: Path) -> None:
    """TypeScript finds unknown fields, and the models find wrong values."""
    modules = libraries(
        "@kubernetes-models/gateway-api@2.0.0",
        "@kubernetes-models/prometheus-operator@6.0.0",
        "typescript@7.0.2",
    )
    (tmp_path / "node_modules").symlink_to(modules)
    manifests = [*examples("gateway"), *examples("podmonitor")]
    assert [manifest["kind"] for manifest in manifests] == list(_OTHER_KINDS)
    good = tmp_path / "good.mts"
    good.write_text("".join(_checked(manifest) for manifest in manifests))
    assert _compiles(good), "an unknown field"
    subprocess.run([program("node"), good.with_suffix(".mjs")], check=True)
    manifests[0]["spec"]["rules"][0]["timeout"] = "0s"
    bad = tmp_path / "bad.mts"
    bad.write_text(_checked(manifests[0]))
    assert not _compiles(bad)


def _checked(manifest: dict[str, Any]) -> str:
    kind = manifest["kind"]
    module = f"@kubernetes-models/{_OTHER_KINDS[kind]}"
    imported = f"import {{ {kind}, type I{kind} }} from {json.dumps(module)};\n"
    value = f"const a{kind}: I{kind} = {json.dumps(manifest)};\n"
    return f"{imported}{value}new {kind}(a{kind}).validate();\n"


def _compiles(file: Path) -> bool:
    compiler = file.parent / "node_modules" / "typescript" / "bin" / "tsc"
    options = ("--module", "nodenext", "--strict", "--skipLibCheck", "--noEmitOnError")
    done = subprocess.run(
        [program("node"), compiler, *options, file], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1, 2), done.stdout
    return done.returncode == 0


def test_the_routes_lead_to_the_chart_and_the_monitor_sets_the_job_of_the_alerts() -> None:
    manifests = rendered(REQUIRED)
    service = next(one for one in manifests.values() if one["kind"] == "Service")
    ports = {port["port"] for port in service["spec"]["ports"]}
    for route in examples("gateway"):
        (rule,) = route["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"] in ports
    (monitor,) = examples("podmonitor")
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["spec"]["jobLabel"]] == "claude-code-bridge"
