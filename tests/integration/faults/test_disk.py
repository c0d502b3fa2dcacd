"""The disk for logs is full, read-only or gone: that costs lines, and no answer at either API."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import httpx
import pytest

from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.integration.cli.test_serve import served
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim

FULL = Path("/dev/full")

# The port cannot be read from what it prints.
QUIET = 'exec "$0" -m bridge "$@" >"$OUTPUT" 2>&1'


@contextmanager
def unread(fifo: Path) -> Iterator[None]:
    """Make a FIFO that is full and not read."""
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        for size in (1024, 1):
            with suppress(BlockingIOError):
                while True:
                    os.write(fd, b"x" * size)
        yield
    finally:
        os.close(fd)


def through_http(url: str, text: str) -> str:
    """Have this said; gives the request's id."""
    body = {"model": "default", "messages": [{"role": "user", "content": sim(text=text)}]}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == text
    return response.headers["x-request-id"]


def through_grpc(target: str, text: str) -> str:
    """Have this said; gives the request's id."""
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=sim(text=text))])
    with grpc.insecure_channel(target) as channel:
        call = CompletionServiceStub(channel).Complete(
            pb.CompleteRequest(completion=pb.CompletionSpec(messages=[message])), timeout=PATIENCE
        )
        responses = list(call)
    assert "".join(response.event.text_delta.text for response in responses) == text
    assert responses[-1].event.WhichOneof("event") == "finished"
    return responses[0].event.started.request_id


def logged(path: Path) -> set[str]:
    """The requests in the log."""
    with suppress(OSError):
        return {json.loads(line)["request_id"] for line in path.read_text().splitlines()}
    return set()


def test_the_log_loses_lines_while_it_cannot_be_written_and_then_resumes(
    start_bridge: Callable[..., RunningBridge],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = tmp_path / "file"
    path = state / "sessions.jsonl"
    running = start_bridge(bridge_state_dir=state)

    def answers() -> set[str]:
        return {
            through_http(running.url, "over HTTP"),
            through_grpc(running.target, "over gRPC"),
        }

    def lines_lost() -> int:
        told = [record for record in caplog.records if "cannot be written" in record.message]
        caplog.clear()
        return len(told)

    def goes_on() -> None:
        # The line in which it is found out may be lost.
        answers()
        for _ in range(100):
            asked = answers()
            until = time.monotonic() + 1
            while time.monotonic() < until:
                if asked <= logged(path):
                    return
        raise AssertionError("nothing is logged any more")

    caplog.set_level(logging.WARNING)
    # A folder that is none; root may write into one that is read-only.
    state.touch()
    answers()
    answers()
    assert lines_lost() == 1
    state.unlink()
    goes_on()
    # Gone, with the file that is open.
    shutil.rmtree(state)
    goes_on()
    if FULL.exists():
        caplog.clear()
        path.unlink()
        path.symlink_to(FULL)
        answers()
        answers()
        assert lines_lost() == 1
        path.unlink()
        goes_on()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_server_keeps_serving_when_its_output_has_no_room(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "sessions.jsonl").symlink_to(FULL)
    serves_though_it_cannot_print(tmp_path, FULL)


@LONG
def test_a_server_keeps_serving_when_its_output_is_not_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    with unread(fifo):
        serves_though_it_cannot_print(tmp_path, fifo)


def serves_though_it_cannot_print(folder: Path, output: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        ports = one.getsockname()[1], two.getsockname()[1]
    url, target = (f"127.0.0.1:{port}" for port in ports)
    with served(
        folder,
        "--demo",
        "--verbose",
        program=("/bin/sh", "-c", QUIET, sys.executable),
        OUTPUT=str(output),
        PORT=str(ports[0]),
        GRPC_PORT=str(ports[1]),
    ) as running:
        until = time.monotonic() + PATIENCE
        while True:
            assert running.process.poll() is None
            assert time.monotonic() < until
            with suppress(httpx.ConnectError):
                if httpx.get(f"http://{url}/health", timeout=PATIENCE).status_code == 200:
                    break
            time.sleep(0.05)
        through_http(f"http://{url}", "over HTTP")
        through_grpc(target, "over gRPC")
        # A signal ends it as ever, and no other way does.
        assert running.process.poll() is None
