"""What each target of the Makefile installs, and with what.

The Makefile runs on a copy of its own, in an environment whose Python notes its calls; that an
installation by these locks works is shown by test_wheel.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

RUNTIME = ["requirements/runtime.lock", "requirements/checkout.lock"]
DEVELOPMENT = ["requirements/dev.lock"]

READ = ("Makefile", "pyproject.toml", "hatch_build.py", "requirements", "bridge/__init__.py")

NOTING = '#!/bin/sh\n[ "$1" = -VV ] && echo Python 3.11.0\necho "{name} $*" >>"$CALLS"\n'


class Checkout:
    """A copy of what the Makefile reads, and what was called by it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._venv = folder / "environment"
        self._calls = folder / "calls"
        (self._venv / "bin").mkdir(parents=True)
        for name in ("python", "bridge", "lint-imports", "deptry"):
            _write_program(self._venv / "bin" / name)
        for name in READ:
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, target)

    def make(self, *arguments: str, path: Path | None = None) -> list[str]:
        """Run make, with what `path` holds before anything else, and return the programs' calls."""
        self._calls.write_text("")
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        env |= {"VIRTUAL_ENV": str(self._venv), "CALLS": str(self._calls)}
        if path is not None:
            env["PATH"] = f"{path}{os.pathsep}{env['PATH']}"
        subprocess.run(
            ["make", *arguments], cwd=self.folder, env=env, check=True, capture_output=True
        )
        return self._calls.read_text().splitlines()

    def locks(self, *arguments: str) -> list[str]:
        """Run make with pip and return the lock files that it installed."""
        installs = [line for line in self.make("UV=", *arguments) if "--require-hashes" in line]
        assert len(installs) <= 1
        return [word for line in installs for word in line.split() if word.endswith(".lock")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    # With a blank, as folders of users have.
    return Checkout(tmp_path / "a clone")


@pytest.mark.parametrize("target", ["demo", "serve", "proto"])
def test_running_it_installs_only_the_runtime(checkout: Checkout, target: str) -> None:
    assert checkout.locks(target) == RUNTIME


@pytest.mark.parametrize("target", ["test", "test-long", "check", "bench", "soak", "examples"])
def test_developing_it_installs_everything(checkout: Checkout, target: str) -> None:
    assert checkout.locks(target) == DEVELOPMENT


def test_the_examples_are_run(checkout: Checkout) -> None:
    assert checkout.make("UV=", "examples")[-1].endswith(" -m examples")


def test_nothing_is_installed_twice(checkout: Checkout) -> None:
    assert checkout.locks("demo") == RUNTIME
    assert checkout.locks("serve") == []
    assert checkout.locks("test") == DEVELOPMENT
    assert checkout.locks("check") == []
    assert checkout.locks("demo") == []


@pytest.mark.parametrize("name", [*RUNTIME, "pyproject.toml", "hatch_build.py"])
def test_what_changed_is_installed_again(checkout: Checkout, name: str) -> None:
    checkout.locks("demo")
    with (checkout.folder / name).open("a") as file:
        file.write("# changed\n")

    assert checkout.locks("demo") == RUNTIME


def test_the_tools_of_development_do_not_matter_to_the_runtime(checkout: Checkout) -> None:
    checkout.locks("demo")
    with (checkout.folder / "requirements" / "dev.lock").open("a") as file:
        file.write("# changed\n")

    assert checkout.locks("demo") == []


def test_an_aborted_installation_is_repeated(checkout: Checkout) -> None:
    python = checkout.folder / "environment" / "bin" / "python"
    checkout.locks("test")
    _write_program(python, '[ "$3" != install ]\n')
    with (checkout.folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(subprocess.CalledProcessError):
        checkout.make("UV=", "demo")
    _write_program(python)
    shutil.copyfile(ROOT / "pyproject.toml", checkout.folder / "pyproject.toml")

    assert checkout.locks("test") == DEVELOPMENT


def test_the_stubs_are_generated_by_each_target(checkout: Checkout) -> None:
    first = checkout.make("UV=", "proto")
    second = checkout.make("UV=", "proto")

    assert any(line.endswith("--no-deps --force-reinstall -e .") for line in first)
    assert "python hatch_build.py" in second


def test_uv_installs_where_there_is_one(checkout: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    _write_program(folder / "uv")

    calls = checkout.make("demo", path=folder)
    by_uv = [line for line in calls if line.startswith("uv pip install --python ")]

    assert len(by_uv) == 2
    assert by_uv[0].endswith(
        "--require-hashes -r requirements/runtime.lock -r requirements/checkout.lock"
    )
    assert not any("-m pip" in line for line in calls)


def _write_program(path: Path, end: str = "") -> None:
    path.write_text(NOTING.format(name=path.name) + end)
    path.chmod(0o755)
