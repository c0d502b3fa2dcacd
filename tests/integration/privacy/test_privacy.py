"""Nothing that a caller sends is in a log, another caller's error, or an open file."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from bridge.core.claude.control import ControlError
from bridge.core.contract.errors import InvalidRequestError
from bridge.core.system.private_files import open_private, private_folder
from bridge.core.telemetry.redaction import PrivateFormatter, kind_of, on_loop_error, trace_of
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.integration.cli.test_serve import served
from tests.integration.privacy.test_bounds import PNG
from tests.support.grpc.details import details_of
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim

# A word for each place that a caller can write into, none of which may come out anywhere.
MARK = "zqmark"
LABEL = "zqlabel-search"


def mark(place: str) -> str:
    return f"{MARK}-{place}"


def chat_body(directive: str = "", **fields: Any) -> dict[str, Any]:
    """A request with a mark in every text of it."""
    image = base64.b64encode(PNG + mark("image").encode()).decode()
    call = {
        "id": mark("id"),
        "type": "function",
        "function": {"name": f"tool_{MARK}", "arguments": json.dumps({"a": mark("arguments")})},
    }
    return {
        "messages": [
            {"role": "system", "content": mark("system")},
            {"role": "user", "content": mark("user"), "name": mark("name")},
            {"role": "assistant", "content": mark("assistant"), "tool_calls": [call]},
            {"role": "tool", "tool_call_id": mark("id"), "content": mark("result")},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
                    {"type": "text", "text": f"{mark('last')} {directive}"},
                ],
            },
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": f"tool_{MARK}",
                    "description": mark("description"),
                    "parameters": {"type": "object", "description": mark("schema")},
                },
            }
        ],
        "stop": [mark("stop")],
        "user": mark("end-user"),
        "metadata": {"team": LABEL},
        **fields,
    }


def proto_request(directive: str = "") -> pb.CompleteRequest:
    call = pb.ToolCall(
        id=mark("id"), name=f"tool_{MARK}", arguments_json=json.dumps({"a": mark("arguments")})
    )
    result = pb.ToolResult(call_id=mark("id"), content=[pb.Part(text=mark("result"))])
    image = pb.Image(data=pb.Blob(media_type="image/png", content=PNG + mark("image").encode()))
    texts = [pb.Part(image=image), pb.Part(text=f"{mark('last')} {directive}")]
    schema = json.dumps({"type": "object", "description": mark("schema")})
    tool = pb.Tool(name=f"tool_{MARK}", description=mark("x"), parameters_json=schema)
    return pb.CompleteRequest(
        completion=pb.CompletionSpec(
            system=mark("system"),
            messages=[
                pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=mark("user"))]),
                pb.Message(role=pb.ROLE_ASSISTANT, parts=[pb.Part(tool_call=call)]),
                pb.Message(role=pb.ROLE_USER, parts=[pb.Part(tool_result=result), *texts]),
            ],
            tools=[tool],
            sampling=pb.Sampling(stop=[mark("stop")]),
        )
    )


KEY = mark("key")
ECHO = sim(error={"status": 400, "message": f"messages: {mark('echoed')} is not allowed"})
# Not one that Claude Code would try again, which takes seconds.
FAILS = sim(error={"status": 403, "message": mark("upstream")})
ENDLESS = sim(endless=True, delay_ms=20)
CUT = sim(tokens=50, error_after=30)
SHAPES = ["", ECHO, FAILS, CUT, sim(text=f"an answer with {mark('answer')}")]


async def through_both_apis(url: str, target: str) -> list[str]:
    """Send requests of every fate. Gives the ids of those that were refused."""
    ids = []
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False, headers=headers) as client:
        chat = f"{url}/v1/chat/completions"
        for directive in SHAPES:
            for stream in (False, True):
                reply = await client.post(chat, json=chat_body(directive, stream=stream))
                if reply.status_code >= 400:
                    ids.append(reply.headers["x-request-id"])
        bad = [
            chat_body(temperature=mark("temperature")),
            chat_body(tool_choice=mark("choice")),
            chat_body(response_format={"type": mark("format")}),
            chat_body(response_format=schema_format({"type": mark("type")})),
            {"messages": mark("messages")},
            {mark("unknown"): mark("value"), "messages": [{"role": mark("role")}]},
        ]
        for body in bad:
            reply = await client.post(chat, json=body)
            assert reply.status_code == 400
            ids.append(reply.headers["x-request-id"])
        reply = await client.post(chat, content=f'{{"{mark("broken")}": ')
        assert reply.status_code == 400
        assert (await client.get(f"{url}/v1/{mark('path')}?a={mark('query')}")).status_code == 404
        async with client.stream(
            "POST", chat, json=chat_body(sim(endless=True, delay_ms=20), stream=True)
        ):
            pass  # and gone
    metadata = (("authorization", f"Bearer {KEY}"),)
    async with grpc.aio.insecure_channel(target) as channel:
        stub = CompletionServiceStub(channel)
        for directive in SHAPES:
            call = stub.Complete(proto_request(directive), metadata=metadata, timeout=PATIENCE)
            try:
                async for _ in call:
                    pass
            except grpc.aio.AioRpcError as error:
                ids.append((await details_of(error)).info.metadata["request_id"])
        faulty = proto_request()
        faulty.completion.tools[0].parameters_json = mark("broken")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Complete(faulty, metadata=metadata, timeout=PATIENCE).read()
        left = stub.Complete(proto_request(ENDLESS), metadata=metadata)
        await left.read()
        left.cancel()
    return ids


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


class Everything(logging.Handler):
    """All that is logged, by whomever, at whatever level."""

    def __init__(self) -> None:
        super().__init__(0)
        self.lines: list[str] = []
        self.setFormatter(PrivateFormatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        self.lines.append(line)
        # pytest keeps every record, and with it whatever gRPC logs of its own: objects that must
        # not be freed in another thread than theirs.
        record.msg, record.args, record.exc_info = line, None, None

    @property
    def leaks(self) -> list[str]:
        return [line for line in self.lines if MARK in line]


# The test's own clients, and what the simulated model is.
_OTHERS = ("httpx", "httpcore", "bridge.simulator")


@pytest.fixture
def everything() -> Iterator[Everything]:
    root, handler = logging.getLogger(), Everything()
    handler.addFilter(lambda record: not record.name.startswith(_OTHERS))
    names = [name for name in logging.root.manager.loggerDict if not name.startswith(_OTHERS)]
    loggers = [root, *map(logging.getLogger, names)]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


@pytest.fixture(scope="module")
def own(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    running = RunningBridge(settings_for_tests(tmp_path_factory.mktemp("private")), loop_thread)
    running.start()
    yield running
    running.stop()


async def test_no_log_at_any_level_holds_what_callers_send(
    own: RunningBridge, everything: Everything
) -> None:
    ids = await through_both_apis(own.url, own.target)
    await _kill_a_process(own)
    await asyncio.to_thread(own.wait_until_settled)
    gc.collect()
    assert everything.lines
    assert everything.leaks == []
    # The lines of the APIs, the session log and the replies have one id in common.
    logged = "\n".join(everything.lines)
    assert [request_id for request_id in ids if request_id not in logged] == []
    kept = own.log_path.read_text()
    assert MARK not in kept
    assert LABEL in kept
    assert sum(request_id in kept for request_id in ids) >= 6


async def _kill_a_process(own: RunningBridge) -> None:
    """In the middle of an answer."""
    body = chat_body(sim(tokens=50, hang_after=30), stream=True)

    async def kill() -> None:
        for process in own.bridge.engine.pool._processes.values():
            if process.state == "running" and process.session is not None:
                os.kill(process.session.pid, signal.SIGKILL)

    async with (
        httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client,
        client.stream("POST", f"{own.url}/v1/chat/completions", json=body) as reply,
    ):
        lines = reply.aiter_lines()
        async for line in lines:
            if "w2" in line:
                break
        await asyncio.to_thread(own.call, kill)
        rest = [line async for line in lines]
    assert "claude_process_error" in "".join(rest)


def test_what_the_program_itself_writes_holds_nothing_either(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    with served(tmp_path, "--demo", "-v") as running:
        http = running.wait_for(r"HTTP +(http://[\d.:]+)/v1")[1]
        target = running.wait_for(r"gRPC +([\d.:]+)")[1]
        ids = loop_thread.call(through_both_apis(http, target))
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    assert MARK not in running.output
    # Labels are the caller's words for the operator: in the session log, which is private.
    assert LABEL not in running.output
    assert all(request_id in running.output for request_id in ids)
    for file in (tmp_path / "log").iterdir():
        assert MARK.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700


async def test_an_error_holds_nothing_of_another_request(own: RunningBridge) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        chat = f"{own.url}/v1/chat/completions"
        mine = await client.post(chat, json=chat_body(ECHO))
        # Its own words come back to the one who sent them.
        assert mark("echoed") in mine.json()["error"]["message"]
        other = sim(error={"status": 400, "message": "no"})
        theirs = await client.post(chat, json={"messages": [{"role": "user", "content": other}]})
    assert theirs.status_code == 400
    assert MARK not in theirs.text


def test_an_error_is_logged_by_its_kind_and_its_place() -> None:
    try:
        try:
            raise KeyError(MARK)
        except KeyError as error:
            raise ExceptionGroup(MARK, [ValueError(MARK)]) from error
    except ExceptionGroup as error:
        text = trace_of(error)
    assert MARK not in text
    assert "KeyError" in text
    assert "ValueError" in text
    assert "test_privacy.py" in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InvalidRequestError(MARK), "InvalidRequestError (INVALID_VALUE)"),
        (FileNotFoundError(2, "No such file", MARK), "FileNotFoundError: No such file"),
        (ControlError("it was refused", MARK), "ControlError: it was refused"),
        (ValueError(MARK), "ValueError"),
    ],
)
def test_an_error_in_one_line(error: Exception, said: str) -> None:
    assert kind_of(error) == said


async def test_a_task_that_was_not_awaited_is_logged_without_its_error(
    everything: Everything,
) -> None:
    async def fail() -> None:
        raise ValueError(MARK)

    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(on_loop_error)
    try:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert "never retrieved" in "".join(everything.lines)
    assert everything.leaks == []


@pytest.fixture
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_open_umask")
def test_files_and_folders_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "state"
    private_folder(folder)
    os.close(open_private(folder / "new", os.O_WRONLY))
    old = folder / "old"
    old.write_text("kept")
    old.chmod(0o644)
    os.close(open_private(old, os.O_WRONLY | os.O_APPEND))
    assert [mode(path) for path in (folder, folder / "new", old)] == [0o700, 0o600, 0o600]
    assert old.read_text() == "kept"
    folder.chmod(0o755)
    private_folder(folder)
    assert mode(folder) == 0o700


@pytest.mark.usefixtures("_open_umask")
def test_a_folder_that_is_not_the_bridges_own_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    private_folder(shared)
    assert mode(shared) == 0o777
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("HOME", str(home))
    private_folder(home)
    assert mode(home) == 0o755


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o777
