"""`bridge serve` as a program: what it prints, how it ends, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridge.core.access.keys import KeyFile
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.claude.lacking import cli_without
from tests.support.harness import LONG, PATIENCE, sim
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


class Served:
    """A `bridge serve` that runs, with all that it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._printed = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._printed:
                self.lines.append(line)
                self._printed.notify_all()
        with self._printed:
            self._over = True
            self._printed.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches."""

        def found() -> re.Match[str] | None:
            return next((m for line in self.lines if (m := re.search(pattern, line))), None)

        with self._printed:
            assert self._printed.wait_for(lambda: found() or self._over, PATIENCE)
            match = found()
        assert match is not None, "".join(self.lines)
        return match

    def end(self) -> int:
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    @property
    def output(self) -> str:
        return "".join(self.lines)


@contextmanager
def served(
    state: Path, *arguments: str, program: Sequence[str] = (), **environment: str
) -> Iterator[Served]:
    """Run `bridge serve`, or another `program` that takes the same arguments."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(state),
        "BRIDGE_STATE_DIR": str(state / "log"),
        "TMPDIR": str(state),
        "PORT": "0",
        "GRPC_PORT": "0",
        "POOL_SIZE": "1",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        **environment,
    }
    process = subprocess.Popen(
        [*(program or (sys.executable, "-m", "bridge")), "serve", *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Served(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        running.end()
        assert process.stdout is not None
        process.stdout.close()


def children_of(pid: int) -> set[int]:
    """The processes that a process has started."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    return {child for child, parent in pairs if parent == pid}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_demo_tries_both_apis_and_keeps_serving(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http", "--grpc", "--try") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        running.wait_for(r"gRPC +127\.0\.0\.1:\d+")
        running.wait_for(r"keys +none")
        running.wait_for(r"CLI +Claude Code \d+\.\d+\.\d+")
        running.wait_for(r"simulated model")
        running.wait_for(r"\d+ Claude Code process(es are| is) warm")
        assert running.output.count("This is a simulated answer") == 2
        assert "curl -N" in running.output
        assert "grpcurl" in running.output
        assert httpx.get(f"{url}/health", timeout=PATIENCE).status_code == 200


@LONG
def test_the_first_start_with_another_cli_probes_it_and_the_next_one_does_not(
    tmp_path: Path,
) -> None:
    checking = "checking which features .* has"
    mine = {"BRIDGE_CLAUDE_PATH": str(cli_without(tmp_path))}
    with served(tmp_path, "--demo", "--http", "--verbose", **mine) as running:
        running.wait_for(checking)
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        health = httpx.get(f"{url}/health", timeout=PATIENCE).json()
        assert (health["status"], health["lacking"]) == ("ok", [])
    with served(tmp_path, "--demo", "--http", "--verbose", **mine) as running:
        running.wait_for(r"http://127\.0\.0\.1:\d+/v1")
        assert not re.search(checking, running.output)


@pytest.fixture(scope="module")
def verbose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    """A first start with `-v`, beside a variable that says otherwise."""
    state = tmp_path_factory.mktemp("verbose")
    with served(state, "--demo", "--http", "-v", BRIDGE_LOG_LEVEL="error") as running:
        yield state, running


def test_the_first_start_with_the_bundled_cli_probes_nothing(verbose: tuple[Path, Served]) -> None:
    state, running = verbose
    running.wait_for(r"http://127\.0\.0\.1:\d+/v1")
    assert "checking which features" not in running.output
    assert not (state / "log" / "probe.json").exists()


def test_verbose_is_louder_than_the_variable(verbose: tuple[Path, Served]) -> None:
    _, running = verbose
    running.wait_for(r"INFO bridge\.health: ok \(was starting\)")


def test_sigterm_ends_it_with_status_0_and_no_process_is_left(tmp_path: Path) -> None:
    with served(tmp_path, "--demo") as running:
        running.wait_for(r"\d+ Claude Code process(es are| is) warm")
        children = children_of(running.process.pid)
        assert children
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        assert not [pid for pid in children if alive(pid)]
        assert "Traceback" not in running.output


def test_ctrl_c_in_the_middle_of_an_answer_lets_it_finish(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        children = children_of(running.process.pid)
        with streaming(url, sim(tokens=30, delay_ms=20)) as lines:
            running.process.send_signal(signal.SIGINT)
            rest = list(lines)
        assert "data: [DONE]" in rest
        assert running.end() == 0
        assert not [pid for pid in children if alive(pid)]


def test_a_second_signal_ends_a_running_answer_at_once(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        children = children_of(running.process.pid)
        with streaming(url, sim(endless=True, delay_ms=20)) as lines:
            running.process.send_signal(signal.SIGTERM)
            running.wait_for("stopping")
            running.process.send_signal(signal.SIGTERM)
            assert not any(line == "data: [DONE]" for line in lines)
        assert running.end() == 0
        assert not [pid for pid in children if alive(pid)]


def test_before_a_drain_requests_are_served_while_the_health_checks_fail(tmp_path: Path) -> None:
    # Far longer than the test takes: it is ended by a second signal.
    with served(tmp_path, "--demo", BRIDGE_DRAIN_DELAY="3000") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        target = running.wait_for(r"gRPC +(127\.0\.0\.1:\d+)")[1]
        running.wait_for("warm")
        with grpc.insecure_channel(target) as channel:
            assert healthy(url, channel) == (200, 200, "SERVING", "SERVING")
            running.process.send_signal(signal.SIGTERM)
            running.wait_for("stopping: refusing requests in 3000 seconds")
            assert healthy(url, channel) == (200, 503, "SERVING", "NOT_SERVING")
            for _ in range(2):
                assert _ask(url, sim(text="still")).status_code == 200
                spec = pb.CompletionSpec(
                    messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=sim(text="here"))])]
                )
                request = pb.CreateCompletionRequest(completion=spec)
                stub = CompletionServiceStub(channel)
                assert stub.CreateCompletion(request, timeout=PATIENCE).text == "here"
            with streaming(url, sim(tokens=40, delay_ms=25)) as lines:
                running.process.send_signal(signal.SIGTERM)
                running.wait_for("waiting for running answers")
                late = _ask(url, "too late")
                assert (late.status_code, late.headers["x-bridge-error"]) == (503, "DRAINING")
                assert "data: [DONE]" in list(lines)
        assert running.end() == 0


@LONG
def test_the_delay_before_a_drain_ends_by_itself(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http", BRIDGE_DRAIN_DELAY="0.5") as running:
        running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("waiting for running answers")
        assert running.end() == 0


def healthy(url: str, channel: grpc.Channel) -> tuple[int, int, str, str]:
    """What the health checks report: of the process and of the service, over both APIs."""
    status = health_pb2.HealthCheckResponse.ServingStatus.Name
    stub: Any = health_pb2_grpc.HealthStub(channel)
    live, ready = (
        status(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE).status)
        for name in ("liveness", "bridge.v1.CompletionService")
    )
    codes = [
        httpx.get(f"{url}/{path}", timeout=PATIENCE).status_code for path in ("livez", "readyz")
    ]
    return codes[0], codes[1], live, ready


@contextmanager
def streaming(url: str, prompt: str) -> Iterator[Iterator[str]]:
    """Ask for a streamed answer; yields its lines once it has begun."""
    body = {"model": "default", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, timeout=PATIENCE
    ) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        yield lines


def _ask(url: str, prompt: str) -> httpx.Response:
    body = {"model": "default", "messages": [{"role": "user", "content": prompt}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)


def test_each_request_is_a_line_of_its_output_and_none_has_a_word_of_it(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        assert _ask(url, f"unmistakable {sim(text='answering')}").status_code == 200
        running.wait_for(r"INFO bridge\.requests: .* finish=stop .*output_tokens=\d+")
        assert _ask(url, f"unmistakable {sim(error={'status': 401})}").status_code == 503
        running.wait_for(r"WARNING bridge\.requests: .* error=CLAUDE_NOT_LOGGED_IN")
        running.wait_for(r"WARNING bridge\.health: not_logged_in \(was ok\): .*bridge login")
    assert "unmistakable" not in running.output
    assert "answering" not in running.output


def test_as_json_every_line_is_an_object(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http", BRIDGE_LOG_FORMAT="json") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        assert _ask(url, "hi").status_code == 200
        running.wait_for("output_tokens")
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    lines = [json.loads(line) for line in running.lines]
    (request,) = (line for line in lines if line["logger"] == "bridge.requests")
    assert request["finish"] == "stop"
    assert all({"time", "level", "message"} <= line.keys() for line in lines)


def test_at_level_warning_successful_requests_are_not_logged(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", "--http", BRIDGE_LOG_LEVEL="warning") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        assert _ask(url, "hi").status_code == 200
        assert _ask(url, sim(error={"status": 401})).status_code == 503
        running.wait_for(r"WARNING bridge\.requests: .* error=")
    assert "INFO" not in running.output


def test_a_clean_stop_stores_when_keys_were_last_used(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "log" / "keys.json")
    secrets = [file.add(name) for name in ("phone", "laptop")]
    headers = [{"authorization": f"Bearer {secret}"} for secret in secrets]
    with served(tmp_path, "--demo", "--http") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        running.wait_for(r"keys +required; 2 configured")
        # The second one within the minute in which nothing more is written by itself.
        for each in headers:
            assert httpx.get(f"{url}/v1/models", headers=each).status_code == 200
            eventually(lambda: bool(file.used()))
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    assert set(file.used()) == {key.id for key in file.read()}


def test_a_server_that_does_not_know_its_keys_says_so(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    redis_server.kill()
    with served(tmp_path, "--demo", "--http", BRIDGE_REDIS_URL=redis_server.url) as running:
        running.wait_for("refuses every request that needs one")
        running.wait_for(r"keys +not known yet: Redis is unavailable")


def test_a_missing_login_is_reported_and_never_answered_from_the_simulator(tmp_path: Path) -> None:
    with served(tmp_path, "--http") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        running.wait_for(r"NOT LOGGED IN.*bridge login")
        running.wait_for(r"bridge serve --demo")
        health = httpx.get(f"{url}/health", timeout=PATIENCE)
        assert (health.status_code, health.json()["status"]) == (503, "not_logged_in")
        body = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "claude_not_logged_in"
        assert answer.headers["x-should-retry"] == "false"


def test_an_api_key_pays_where_there_is_no_login_and_is_named(tmp_path: Path) -> None:
    key = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    with served(tmp_path, "--http", **key) as running:
        running.wait_for(r"account +ANTHROPIC_API_KEY pays")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's environment")
def test_claude_code_gets_what_it_needs_and_what_the_operator_names(tmp_path: Path) -> None:
    given = {"GITHUB_TOKEN": "t", "VAULT_ADDR": "a", "CLAUDE_CODE_EFFORT_LEVEL": "max"}
    with served(tmp_path, "--http", BRIDGE_PASS_ENV="VAULT_*", **given) as running:
        running.wait_for("CLAUDE_CODE_EFFORT_LEVEL is not passed on")
        running.wait_for(r"\d+ Claude Code process(es are| is) warm")
        texts = [
            Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            for pid in children_of(running.process.pid)
        ]
    (names,) = {
        frozenset(entry.partition(b"=")[0].decode() for entry in text)
        for text in texts
        if any(entry.startswith(b"CLAUDE_AGENT_SDK_VERSION=") for entry in text)
    }
    assert {"HOME", "PATH", "TMPDIR", "DISABLE_TELEMETRY", "VAULT_ADDR"} <= names
    assert not names & {"GITHUB_TOKEN", "CLAUDE_CODE_EFFORT_LEVEL", "BRIDGE_PASS_ENV"}


def test_a_login_is_used_before_an_api_key(tmp_path: Path) -> None:
    both = {
        "ANTHROPIC_API_KEY": "k",
        "CLAUDE_CODE_OAUTH_TOKEN": "t",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    }
    with served(tmp_path, "--http", **both) as running:
        running.wait_for(r"account +CLAUDE_CODE_OAUTH_TOKEN pays")


def test_a_variable_that_is_no_setting_is_named_at_the_start(tmp_path: Path) -> None:
    with served(tmp_path, "--demo", BRIDGE_STRIKT="1", BRIDGE_API_KEY="meant for the server") as it:
        it.wait_for(r"Unknown setting BRIDGE_STRIKT \(ignored\)\. Did you mean BRIDGE_STRICT\?")
        it.wait_for(r"BRIDGE_API_KEY is only sent by clients")


@pytest.mark.parametrize(
    ("api", "variable"), [("--http", "PORT"), pytest.param("--grpc", "GRPC_PORT", marks=LONG)]
)
def test_an_address_in_use_is_named_with_the_remedy(
    tmp_path: Path, api: str, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with served(tmp_path, "--demo", api, **{variable: port}) as running:
            running.wait_for(rf"bridge: .*127\.0\.0\.1:{port}.*{variable}")
            assert running.end() == 1


FEW_FILES = """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from bridge.cli.serve import _allow_files
from bridge.server import Settings
_allow_files(Settings(bridge_http_max_connections=%d))
print(*resource.getrlimit(resource.RLIMIT_NOFILE), hard)
"""


@pytest.mark.parametrize(("connections", "needed"), [(512, 4096), (5_000, 5_000 + 256 + 1_024)])
def test_it_may_have_as_many_files_open_as_its_connections_need(
    connections: int, needed: int
) -> None:
    printed = subprocess.run(
        (sys.executable, "-c", FEW_FILES % connections), capture_output=True, text=True, check=True
    ).stdout
    soft, after, before = map(int, printed.split())
    assert after == before
    assert soft == (needed if before < 0 else min(needed, before))
