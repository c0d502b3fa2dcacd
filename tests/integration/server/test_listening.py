"""A whole bridge on Unix sockets, and one with TLS: both APIs, and what comes with the bridge."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import httpx
import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.cli.tour import next_lines, take_tour
from bridge.client import ChatError, Client, Question, Turn
from bridge.client.asking import Text
from bridge.client.connection import GrpcAddress, ServerAddress
from bridge.client.grpc import GrpcClient
from bridge.client.http import HttpClient
from bridge.doctor.findings import Finding, Mark
from bridge.doctor.listening import listening_findings
from bridge.server.addresses import ListenError, Tcp, TlsFiles, Unix, listen_http
from bridge.server.settings import Settings
from bridge.server.start_error import StartError
from bridge.server.tls import read_tls
from bridge.v1 import model_pb2, model_pb2_grpc
from tests.integration.cli.test_serve import served
from tests.support.certificates import certificate
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim

SIMULATED = "This is a simulated answer"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path, which sockets need."""
    with TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture(scope="module")
def on_sockets(folder: Path, loop_thread: LoopThread) -> Iterator[RunningBridge]:
    running = RunningBridge(
        settings_for_tests(
            folder / "state",
            bridge_uds=folder / "run" / "http.sock",
            bridge_grpc_uds=folder / "run" / "grpc.sock",
        ),
        loop_thread,
    )
    running.start()
    yield running
    running.stop()
    assert [path for path in (folder / "run").iterdir() if path.is_socket()] == []


@pytest.fixture(scope="module")
def with_tls(folder: Path, loop_thread: LoopThread) -> Iterator[RunningBridge]:
    cert, key = certificate("bridge.example.com").write(folder, "server")
    running = RunningBridge(
        settings_for_tests(
            folder / "tls",
            bridge_tls_cert=cert,
            bridge_tls_key=key,
        ),
        loop_thread,
    )
    running.start()
    yield running
    running.stop()


def models_through(channel: grpc.Channel) -> list[str]:
    reply = model_pb2_grpc.ModelServiceStub(channel).ListModels(
        model_pb2.ListModelsRequest(), timeout=PATIENCE
    )
    return [model.id for model in reply.models]


def answer_of(client: Client, text: str) -> str:
    parts = client.ask(Question((Turn("user", sim(text=text)),)))
    return "".join(part.text for part in parts if isinstance(part, Text))


def test_both_apis_serve_on_sockets(on_sockets: RunningBridge, folder: Path) -> None:
    run = folder / "run"
    http = HttpClient(ServerAddress("http://localhost", uds=run / "http.sock"))
    ours = GrpcClient(GrpcAddress(Unix(run / "grpc.sock")))
    for client in (http, ours):
        assert answer_of(client, "Through a socket.") == "Through a socket."
    with grpc.insecure_channel(f"unix:{run / 'grpc.sock'}") as channel:
        assert models_through(channel) == [model["id"] for model in http.models()]
    # And on no port.
    assert (on_sockets.bridge.http_port, on_sockets.bridge.grpc_port) == (0, 0)


def test_the_sockets_are_the_owners_alone(on_sockets: RunningBridge, folder: Path) -> None:
    run = folder / "run"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run.glob("[!.]*")}
    assert modes == {"http.sock": 0o600, "grpc.sock": 0o600}


@pytest.mark.parametrize("variable", ["bridge_uds", "bridge_grpc_uds"])
def test_a_second_server_does_not_take_a_socket(
    on_sockets: RunningBridge,
    folder: Path,
    tmp_path: Path,
    loop_thread: LoopThread,
    variable: str,
) -> None:
    path = folder / "run" / ("http.sock" if variable == "bridge_uds" else "grpc.sock")
    second = RunningBridge(settings_for_tests(tmp_path, **{variable: path}), loop_thread)
    with pytest.raises(StartError, match=rf"^{variable.upper()}: another server listens on {path}"):
        second.start()
    test_both_apis_serve_on_sockets(on_sockets, folder)


@pytest.mark.parametrize("variable", ["bridge_uds", "bridge_grpc_uds"])
def test_a_folder_that_others_enter_is_refused_at_either_api(
    folder: Path, tmp_path: Path, loop_thread: LoopThread, variable: str
) -> None:
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    shared.chmod(0o755)
    settings = settings_for_tests(tmp_path, **{variable: shared / "s"})
    with pytest.raises(StartError, match=rf"^{variable.upper()}: other users can enter(?!.*chmod)"):
        RunningBridge(settings, loop_thread).start()
    assert not (shared / "s").exists()


@pytest.mark.parametrize("variable", ["bridge_uds", "bridge_grpc_uds"])
def test_a_path_too_long_is_reported_at_either_api(
    folder: Path, tmp_path: Path, loop_thread: LoopThread, variable: str
) -> None:
    settings = settings_for_tests(tmp_path, **{variable: folder / ("s" * 120)})
    with pytest.raises(StartError, match=rf"^{variable.upper()}: .*too long"):
        RunningBridge(settings, loop_thread).start()


def test_with_tls_the_apis_speak_nothing_else(with_tls: RunningBridge) -> None:
    bridge, cert = with_tls.bridge, with_tls.settings.bridge_tls_cert
    assert cert is not None
    http = HttpClient(ServerAddress(f"https://127.0.0.1:{bridge.http_port}", cert=cert))
    ours = GrpcClient(GrpcAddress(with_tls.target, cert=cert))
    for client in (http, ours):
        assert answer_of(client, "In private.") == "In private."
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    options = [("grpc.ssl_target_name_override", "bridge.example.com")]
    with grpc.secure_channel(with_tls.target, credentials, options) as channel:
        assert models_through(channel) == [model["id"] for model in http.models()]
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{with_tls.url}/health", timeout=PATIENCE, trust_env=False)
    with (
        grpc.insecure_channel(with_tls.target) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        models_through(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_another_servers_certificate_is_not_taken_for_ours(
    with_tls: RunningBridge, tmp_path: Path
) -> None:
    other, _ = certificate("bridge.example.com").write(tmp_path, "other")
    url = f"https://127.0.0.1:{with_tls.bridge.http_port}"

    def clients(cert: Path) -> tuple[Client, Client]:
        http = HttpClient(ServerAddress(url, cert=cert))
        return http, GrpcClient(GrpcAddress(with_tls.target, cert=cert))

    for client in clients(other):
        with pytest.raises(ChatError, match="CERTIFICATE_VERIFY_FAILED"):
            client.models()
    for client in clients(tmp_path / "none"):
        with pytest.raises(ChatError, match=r"BRIDGE_TLS_CERT: .*cannot be read"):
            client.models()


@pytest.mark.parametrize("api", ["http", "grpc"])
def test_old_versions_of_tls_are_refused(with_tls: RunningBridge, api: str) -> None:
    port = with_tls.bridge.http_port if api == "http" else with_tls.bridge.grpc_port

    def version(least: ssl.TLSVersion, most: ssl.TLSVersion) -> str | None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        context.minimum_version, context.maximum_version = least, most
        with (
            closing(socket.create_connection(("127.0.0.1", port), PATIENCE)) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            return wrapped.version()

    new = ssl.TLSVersion.TLSv1_2
    assert version(new, new) == "TLSv1.2"
    with (
        pytest.warns(DeprecationWarning, match="TLSv1"),
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        version(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)


def test_the_tour_trusts_the_servers_own_certificate(
    with_tls: RunningBridge, loop_thread: LoopThread
) -> None:
    bridge = with_tls.bridge
    texts: list[str] = []
    apis = bridge.http_address, bridge.grpc_address
    loop_thread.call(take_tour(*apis, bridge.tls, None, texts.append))
    told = "".join(texts)
    assert told.count(SIMULATED) == 2
    assert f"--insecure https://127.0.0.1:{bridge.http_port}/v1/" in told
    assert "-plaintext" not in told


def test_the_tour_leaves_out_a_api_that_asks_for_certificates(
    folder: Path, loop_thread: LoopThread
) -> None:
    cert, key = certificate("bridge.example.com").write(folder, "mutual")
    tls = read_tls(TlsFiles(cert, key, cert))
    texts: list[str] = []
    loop_thread.call(take_tour(None, Tcp("127.0.0.1", 1), tls, None, texts.append))
    told = "".join(texts)
    assert "requires a client certificate" in told
    assert "grpcurl -insecure -cert CERT -key KEY" in told


def test_what_to_try_next_goes_by_the_sockets() -> None:
    told = next_lines(Unix(Path("/r/my http")), Unix(Path("/r/g")), None, needs_key=False)
    assert "--unix-socket '/r/my http' http://localhost/v1/" in told
    assert "-plaintext -unix " in told
    assert "    /r/g bridge.v1" in told


def test_the_command_serves_on_sockets_with_tls_and_keys(folder: Path, tmp_path: Path) -> None:
    cert, key = certificate("bridge.example.com").write(folder, "command")
    settings = {
        "BRIDGE_UDS": str(folder / "c" / "http.sock"),
        "BRIDGE_GRPC_UDS": str(folder / "c" / "grpc.sock"),
        "BRIDGE_TLS_CERT": str(cert),
        "BRIDGE_TLS_KEY": str(key),
        "BRIDGE_API_KEYS": "me=a-secret-of-some-length",
    }
    with served(tmp_path, "--demo", "--try", **settings) as running:
        running.wait_for(rf"HTTP +unix:{folder}/c/http\.sock \(https\)")
        running.wait_for(rf"gRPC +unix:{folder}/c/grpc\.sock \(TLS\)")
        running.wait_for(r"\d+ Claude Code process(es are| is) warm")
        assert running.output.count(SIMULATED) == 2
        client = {**settings, "BRIDGE_API_KEY": "a-secret-of-some-length"}
        listed = CliRunner().invoke(app, ["models"], env=client)
        assert "opus" in listed.stdout.splitlines()
        refused = CliRunner().invoke(app, ["models"], env=settings)
        assert (refused.exit_code, refused.stdout) == (1, "")
    assert "Traceback" not in running.output
    assert not (folder / "c" / "http.sock").exists()
    assert not (folder / "c" / "grpc.sock").exists()


@pytest.mark.parametrize("apis", [(), ("--http",), ("--grpc",)])
def test_the_command_does_not_serve_others_without_keys(
    apis: tuple[str, ...], tmp_path: Path
) -> None:
    env = {"HOST": "0.0.0.0", "BRIDGE_STATE_DIR": str(tmp_path)}
    result = CliRunner().invoke(app, ["serve", "--demo", *apis], env=env)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("bridge: HOST is 0.0.0.0, which other machines can reach")
    assert "bridge keys add" in result.stderr


async def apis_of(running: RunningBridge) -> dict[str, Finding]:
    """What the doctor reports about where this bridge listens."""
    settings = running.settings
    address = running.bridge.http_address
    if isinstance(address, Tcp):
        ports = {"port": running.bridge.http_port, "grpc_port": running.bridge.grpc_port}
        settings = settings.model_copy(update=ports)
    return {finding.check: finding async for finding in listening_findings(settings)}


@pytest.mark.parametrize("bridge_with", ["on_sockets", "with_tls"])
def test_the_doctor_knows_a_bridge_that_runs(
    request: pytest.FixtureRequest, bridge_with: str
) -> None:
    found = asyncio.run(apis_of(request.getfixturevalue(bridge_with)))
    # Made for a day, so that its end is near.
    assert ("certificate" in found) is (bridge_with == "with_tls")
    found.pop("certificate", None)
    assert {name: finding.mark for name, finding in found.items()} == {
        "http port": Mark.GOOD,
        "grpc port": Mark.GOOD,
    }
    assert all(finding.facts["bridge"] for finding in found.values())


def test_the_doctor_reports_an_unusable_socket_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    for path, mark in ((tmp_path / "file", Mark.BAD), (tmp_path / "new" / "a.sock", Mark.GOOD)):
        settings = settings_for_tests(tmp_path, bridge_uds=path, grpc_port=0)
        findings = asyncio.run(_first(settings))
        assert findings.mark is mark
        assert ("BRIDGE_UDS" in findings.remedy) is (mark is Mark.BAD)


def test_the_doctor_reports_that_a_reachable_server_needs_keys(tmp_path: Path) -> None:
    finding = asyncio.run(_first(settings_for_tests(tmp_path, host="0.0.0.0")))
    assert finding.mark is Mark.BAD
    assert "bridge keys add" in finding.remedy


async def _first(settings: Settings) -> Finding:
    async with aclosing(listening_findings(settings)) as findings:
        return await anext(findings)


def test_a_port_in_use_is_reported_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Tcp("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ListenError) as caught:
            listen_http(address)
    assert str(caught.value) == (
        f"The HTTP API cannot listen on {address}: {os.strerror(errno.EADDRINUSE)}. "
        "Set PORT or --port to a free port."
    )
