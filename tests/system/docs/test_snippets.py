"""The snippets in the documents work: they run against a whole bridge."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from bridge.cli import app
from tests.support.harness import PATIENCE, RunningBridge
from tests.support.paths import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples/README.md"]

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(language: str) -> list[Any]:
    """Every fenced block of a language, named by its document and its place there."""
    found = []
    for document in DOCUMENTS:
        blocks = [b for kind, b in _FENCE.findall(document.read_text()) if kind == language]
        found += [pytest.param(b, id=f"{document.stem}-{n}") for n, b in enumerate(blocks, start=1)]
    return found


def commands(program: str) -> list[list[str]]:
    """Every command line of a program in the documents, as its arguments."""
    found: dict[tuple[str, ...], None] = {}
    for snippet in snippets("sh"):
        (text,) = snippet.values
        for line in text.replace("\\\n", " ").splitlines():
            for part in line.split(" | "):
                words = shlex.split(part, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    del words[0]
                if words[:1] == [program]:
                    words = words[: words.index("&&")] if "&&" in words else words
                    found[tuple(words[1:])] = None
    return [list(words) for words in found]


def at(bridge: RunningBridge, text: str) -> str:
    """The text with this bridge's addresses in the place of the usual ones."""
    return text.replace("http://127.0.0.1:8000", bridge.url).replace(
        "127.0.0.1:50051", bridge.target
    )


@pytest.mark.parametrize("snippet", snippets("python"))
def test_python(bridge: RunningBridge, snippet: str, tmp_path: Path) -> None:
    for package in packages(snippet):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    code = at(bridge, snippet)
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or "print(" not in snippet


def packages(code: str) -> set[str]:
    """What a piece of code imports, by the top of each name."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as a user who has installed the package."""
    local = {"no_proxy": "127.0.0.1", "no_grpc_proxy": "127.0.0.1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **local},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        c
        for c in commands("curl")
        # Those through a proxy run with it.
        if not any(word.startswith(("$", "--unix", "https://bridge.example.com")) for word in c)
    ],
    ids=" ".join,
)
def test_curl(bridge: RunningBridge, arguments: list[str], tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    words = (at(bridge, word) for word in arguments)
    done = run(["curl", "--fail", "--silent", *words], tmp_path)
    assert done.returncode == 0, done
    assert done.stdout


@pytest.mark.parametrize("arguments", commands("bridge"), ids=" ".join)
def test_every_command_and_option_that_is_shown_exists(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    words = list(arguments)
    while hasattr(command, "commands") and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= known
