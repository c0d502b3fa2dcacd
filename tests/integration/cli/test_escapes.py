"""Nothing that a server or a model sends controls the terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.v1 import model_pb2, pool_pb2
from bridge.v1.completion_pb2_grpc import (
    CompletionServiceServicer,
    add_CompletionServiceServicer_to_server,
)
from bridge.v1.model_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from bridge.v1.pool_pb2_grpc import PoolServiceServicer, add_PoolServiceServicer_to_server
from tests.support.harness import RunningBridge, sim
from tests.support.terminal import at_terminal

# Sets the title, clears the screen, answers to a question of the terminal; the last as one byte.
EVIL = "\x1b]0;owned\x07mid\x1b[2J\x1b[6n\x9b2Jend"
HARMLESS = "]0;ownedmid[2J[6n2Jend"
STEERING = ("\x1b]0", "\x1b[2J", "\x1b[6n", "\x9b", "\x07")


class _Http(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": EVIL}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._send(400, {"error": {"message": EVIL}})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Grpc(CompletionServiceServicer, ModelServiceServicer, PoolServiceServicer):
    def Complete(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, EVIL)
        yield

    def ListModels(self, request: Any, context: Any) -> model_pb2.ListModelsResponse:
        return model_pb2.ListModelsResponse(models=[model_pb2.Model(id=EVIL)])

    def GetPool(self, request: Any, context: Any) -> pool_pb2.GetPoolResponse:
        pool = pool_pb2.Pool(account=EVIL, detail=EVIL, cli_version=EVIL, lacking=[EVIL])
        return pool_pb2.GetPoolResponse(pool=pool)


@pytest.fixture(scope="module")
def hostile() -> Iterator[dict[str, list[str]]]:
    """A server whose every word has escape sequences: how it is reached, by API."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Http)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    # Of the generated base classes only what is asked for here is there.
    servicer = _Grpc()  # type: ignore[abstract]
    add_CompletionServiceServicer_to_server(servicer, server)
    add_ModelServiceServicer_to_server(servicer, server)
    add_PoolServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield {
        "http": ["--url", f"http://127.0.0.1:{http.server_port}"],
        "grpc": ["--grpc", "--url", f"127.0.0.1:{port}"],
        "pool": ["--url", f"127.0.0.1:{port}"],
    }
    server.stop(None).wait()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.mark.parametrize(
    ("command", "api", "status"),
    [
        (["chat", "x"], "http", 1),
        (["chat", "x"], "grpc", 1),
        (["models"], "http", 0),
        (["models"], "grpc", 0),
        (["pool"], "pool", 0),
    ],
)
def test_errors_and_names_of_a_server_are_harmless(
    hostile: dict[str, list[str]], command: list[str], api: str, status: int
) -> None:
    with at_terminal(*command, *hostile[api]) as terminal:
        assert terminal.end() == status
    assert HARMLESS in terminal.output
    assert not [text for text in STEERING if text in terminal.output]


def test_an_error_within_a_conversation_is_harmless(hostile: dict[str, list[str]]) -> None:
    with at_terminal("chat", *hostile["http"]) as terminal:
        terminal.wait_for("> ")
        terminal.type("x")
        terminal.wait_for("2Jend")
        terminal.type("/quit")
        assert terminal.end() == 0
    assert HARMLESS in terminal.output
    assert not [text for text in STEERING if text in terminal.output]


def test_json_is_exact(hostile: dict[str, list[str]]) -> None:
    result = CliRunner().invoke(app, ["models", "--json", *hostile["http"]])
    assert json.loads(result.stdout) == [{"id": EVIL}]
    assert result.stdout.isascii()
    result = CliRunner().invoke(app, ["pool", "--json", *hostile["pool"]])
    assert json.loads(result.stdout)["account"] == EVIL


def test_an_answer_is_harmless_at_a_terminal_and_exact_elsewhere(bridge: RunningBridge) -> None:
    prompt = sim(text=f"a\tb\n{EVIL}")
    with at_terminal("chat", "--url", bridge.url, prompt) as terminal:
        assert terminal.end() == 0
    assert f"a\tb\r\n{HARMLESS}" in terminal.output
    assert not [text for text in STEERING if text in terminal.output]
    result = CliRunner().invoke(app, ["chat", "-q", "--url", bridge.url, prompt])
    assert result.stdout == f"a\tb\n{EVIL}\n"


def test_the_session_log_is_harmless(tmp_path: Path, bridge: RunningBridge) -> None:
    line = json.loads(bridge.log_path.read_text().splitlines()[-1])
    names = {key: EVIL for key in ("request_id", "model", "key", "error", "api") if key in line}
    assert names
    (tmp_path / "sessions.jsonl").write_text(json.dumps({**line, **names}) + "\n")
    with at_terminal("logs", BRIDGE_STATE_DIR=str(tmp_path)) as terminal:
        assert terminal.end() == 0
    assert "]0;owned" in terminal.output
    assert not [text for text in STEERING if text in terminal.output]
