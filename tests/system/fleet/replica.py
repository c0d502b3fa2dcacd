"""One replica: the installed command `bridge serve`, with folders, login and ports of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.clients.programs import environment
from tests.support.harness import PATIENCE
from tests.support.http.client import CHAT
from tests.support.paid_server import log_in
from tests.system.fleet.programs import Program, eventually, lasting_port
from tests.system.proxies.recipes import KEY

NAMES: Final = ("anna", "ben", "cleo")
POOL_SIZE: Final = 1
QUEUE_SIZE: Final = 2


@dataclass(frozen=True)
class Replica:
    """A replica and where it is; `program` is the server."""

    name: str
    home: Path
    port: int
    grpc_port: int
    program: Program

    @property
    def token(self) -> str:
        """The credential that its calls of the model bear."""
        return token_of(self.name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ready(self) -> bool:
        """Whether it wants requests."""
        return self.ask("/readyz").status_code == 200

    def log_in(self) -> None:
        log_in(self.home / ".claude", self.token)

    def start(self) -> None:
        """Start it and wait until it takes requests."""
        warm = self.program.output.count("warm")
        self.program.start()

        def started() -> bool:
            assert self.program.running, self.program.output
            return self.program.output.count("warm") > warm

        eventually(started, lambda: f"{self.name} starts:\n{self.program.output[-2000:]}")

    def ask(
        self, path: str, body: Mapping[str, Any] | None = None, *, key: str = KEY, **more: str
    ) -> httpx.Response:
        """Ask the replica itself, without a proxy; `more` are headers."""
        method, bearer = "GET" if body is None else "POST", f"Bearer {key}"
        headers = {"authorization": bearer, **more}
        with httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False) as client:
            return client.request(method, path, json=body, headers=headers)

    def takes(self, key: str, *, wanted: int = 200) -> None:
        """Wait until it takes a key, or refuses it."""

        def agreed() -> bool:
            return self.ask("/v1/models", key=key).status_code == wanted

        eventually(agreed, lambda: f"{self.name} answers {wanted}")

    @contextmanager
    def streaming(self, text: str, *, key: str = KEY) -> Iterator[None]:
        """Have an answer to this streamed, which is left at the end."""
        body = {"model": "default", "messages": [{"role": "user", "content": text}]}
        with (
            httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False) as client,
            client.stream(
                "POST",
                CHAT,
                json={**body, "stream": True},
                headers={"authorization": f"Bearer {key}"},
            ) as answer,
        ):
            assert answer.status_code == 200
            yield

    def run(self, *arguments: str) -> str:
        """Run the command `bridge` where the replica runs; return what it prints."""
        command = [str(self.program.command[0]), *arguments]
        done = subprocess.run(
            command,
            env=dict(self.program.environment),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def records(self) -> list[dict[str, Any]]:
        """Its session log, oldest first."""
        path = self.home / "state" / "sessions.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


def token_of(name: str) -> str:
    return f"sk-ant-oat01-{name}"


def replica(name: str, folder: Path, settings: Mapping[str, str]) -> Replica:
    """Prepare a replica in a folder of its own, logged in and not started."""
    home = folder / name
    home.mkdir()
    port, grpc_port = lasting_port(), lasting_port()
    own = environment(
        home,
        DISABLE_TELEMETRY="1",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        PORT=str(port),
        GRPC_PORT=str(grpc_port),
        POOL_SIZE=str(POOL_SIZE),
        BRIDGE_SPARES="0",
        BRIDGE_MAX_PROCESSES=str(POOL_SIZE),
        BRIDGE_STATE_DIR=str(home / "state"),
        BRIDGE_QUEUE_SIZE=str(QUEUE_SIZE),
        BRIDGE_REPLICA=name,
        # Not for the answers without end of some tests.
        BRIDGE_DRAIN_SECONDS="10",
        **settings,
    )
    command = Path(sys.executable).with_name("bridge")
    program = Program(home, (command, "serve", "--http", "--grpc"), own)
    made = Replica(name, home, port, grpc_port, program)
    made.log_in()
    return made
