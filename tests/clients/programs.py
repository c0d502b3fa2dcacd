"""Programs from npm and PyPI at pinned versions, installed once into a folder that is kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

_CACHE = Path(os.environ.get("BRIDGE_TEST_CACHE") or tempfile.gettempdir()) / "bridge-test-programs"
_SECONDS = 300


def installed(package: str, version: str, program: str) -> Path:
    """Return the path of a program of an npm package; skips the test where there is none."""
    return _from_npm((f"{package}@{version}",), Path("node_modules", ".bin", program))


def libraries(*packages: str) -> Path:
    """Return the folder of npm packages, each with its version; skips the test without them."""
    return _from_npm(packages, Path("node_modules"))


def libraries_of(project: Path) -> Path:
    """Return the folder of the npm packages that a project's lock pins; skips without them."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"{project.name}: npm is not installed")
    files = tuple(project / name for name in ("package.json", "package-lock.json"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    folder = _CACHE / f"{project.name}-{digest[:16]}"
    options = ("--no-audit", "--no-fund", "--ignore-scripts")
    command = (npm, "ci", "--prefix", str(folder), *options)
    _install_once(project.name, folder, command, folder / "node_modules", files)
    return folder / "node_modules"


def _from_npm(packages: tuple[str, ...], path: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"{packages[0]}: npm is not installed")
    folder = _CACHE / "+".join(packages).replace("/", "_")
    command = (npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", *packages)
    _install_once(packages[0], folder, command, folder / path)
    return folder / path


def unpacked(lock: Path, program: str, *, source: bool = False) -> Path:
    """Return the path of a program that is a file of a wheel, which `lock` pins with its hashes.

    With `source` the wheel is built. Skips the test where there is none, for example for this kind
    of machine.
    """
    package = lock.read_text().split()[0]
    folder = _CACHE / package
    command = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    only = () if source else ("--only-binary=:all:",)
    hashed = ("--no-deps", *only, "--require-hashes", "--requirement", str(lock))
    path = folder / program
    _install_once(package, folder, (*command, *hashed, "--target", str(folder)), path)
    return path


def python_with(package: str, version: str) -> Path:
    """Return a Python of its own for a package that does not fit into the lock.

    Skips the test where the package cannot be installed.
    """
    folder = _CACHE / f"{package}=={version}"
    own = folder / "environment"
    python = own / "bin" / "python"
    _install_once(package, own, (sys.executable, "-m", "venv", str(own)), python)
    command = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _install_once(package, folder, (*command, f"{package}=={version}"), python)
    return python


def _install_once(
    package: str,
    folder: Path,
    command: tuple[str, ...],
    path: Path,
    files: tuple[Path, ...] = (),
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Two workers of a run must not install it at once.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for file in files:
                shutil.copy(file, folder)
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"{package}: not installed in {_SECONDS} s")
            if done.returncode or not path.exists():
                pytest.skip(f"{package}: could not be installed: {done.stderr.strip()[-300:]}")
            (folder / "complete").touch()


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment without settings, from which only this machine can be reached."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        **more,
    }


@dataclass(frozen=True)
class Ran:
    """What a program printed, and how it ended."""

    code: int
    out: str
    err: str
