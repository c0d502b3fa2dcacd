"""Run every example against a server with a simulated model: `make examples`."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.server import FrontEnds, Settings, serving

FOLDER = Path(__file__).resolve().parent
TYPESCRIPT = FOLDER / "typescript"
SECONDS = 120
"""After these an example is ended as failed; each takes about a second."""


def scripted(prompt: str, **directive: Any) -> str:
    """Return a prompt that the simulated model answers as `directive` says."""
    return f"{prompt} [[sim {json.dumps(directive)}]]"


ADDS = {"tools": [{"name": "add", "input": {"a": 19, "b": 23}}]}
PROMPTS = (
    scripted("Why is the sky blue?", text="Air scatters blue light more than red.", delay_ms=20),
    scripted("What is 19 + 23?", turns=[ADDS, {"text": "19 + 23 is 42."}]),
    scripted("Tell a long story.", text="Once upon a time… " * 1000, delay_ms=20),
)


@dataclass(frozen=True)
class Example:
    """A program that can be run, and its source, whose first line says what it does."""

    source: Path
    command: tuple[str, ...]

    @property
    def title(self) -> str:
        first = self.source.read_text(encoding="utf-8").partition("\n")[0]
        does = first.strip('"/ ')
        return f"{self.source.relative_to(FOLDER.parent)}: {does}"


def python_examples() -> Iterator[Example]:
    for source in sorted(FOLDER.glob("python_*.py")):
        prompts = PROMPTS[:1] if source.stem == "python_openai" else PROMPTS
        yield Example(source, (sys.executable, str(source), *prompts))


def typescript_example() -> Example | None:
    """Install what it needs and compile it; without Node, print so and return None.

    Raises subprocess.CalledProcessError.
    """
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        print("examples/typescript is skipped: Node and npm are not installed.", flush=True)
        return None
    print("Building examples/typescript", flush=True)
    # npm writes the second file when it has installed what the first one says.
    lock, done = TYPESCRIPT / "package-lock.json", TYPESCRIPT / "node_modules/.package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        _build(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    _build(sys.executable, "-m", "bridge", "protos", "protos")
    _build(npm, "run", "build")
    return Example(TYPESCRIPT / "client.ts", (node, str(TYPESCRIPT / "dist/client.js"), *PROMPTS))


def _build(*command: str) -> None:
    subprocess.run(command, cwd=TYPESCRIPT, stdout=subprocess.PIPE, text=True, check=True)


async def run(example: Example, environment: Mapping[str, str]) -> bool:
    """Run an example; print what it does and what it prints. Return whether it ended well."""
    print(f"\n{example.title}", flush=True)
    process = await asyncio.create_subprocess_exec(*example.command, env=environment)
    try:
        code = await asyncio.wait_for(process.wait(), SECONDS)
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code:
        print(f"FAILED with exit code {code}", flush=True)
    return code == 0


async def run_all(examples: Sequence[Example], state: Path) -> bool:
    """Run the examples one after the other; return whether all ended well."""
    # The settings of this machine's own server are not meant for this one.
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)
    key = f"sk-bridge-{secrets.token_hex(16)}"
    settings: dict[str, Any] = {"port": 0, "grpc_port": 0, "bridge_state_dir": state}
    settings["bridge_api_keys"] = f"examples={key}"
    async with serving(Settings(**settings), FrontEnds(demo=True)) as bridge:
        environment = {
            **os.environ,
            "BRIDGE_API_KEY": key,
            "BRIDGE_TARGET": f"127.0.0.1:{bridge.grpc_port}",
            "BRIDGE_URL": f"http://127.0.0.1:{bridge.http_port}/v1",
            "NO_PROXY": "127.0.0.1",
        }
        results = [await run(example, environment) for example in examples]
    return all(results)


def main() -> None:
    """Exit with 1 if an example cannot be built or fails."""
    examples = list(python_examples())
    try:
        typescript = typescript_example()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.stdout}examples/typescript: {shlex.join(error.cmd)} failed.")
    if typescript is not None:
        examples.append(typescript)
    with tempfile.TemporaryDirectory() as state:
        if not asyncio.run(run_all(examples, Path(state))):
            sys.exit("An example failed.")
    print("\nAll examples that ran succeeded.")


if __name__ == "__main__":
    main()
