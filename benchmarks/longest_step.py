"""`python -m benchmarks.longest_step`: how long the largest requests delay everybody else.

For the largest request of each bound it reports the CPU time of the longest step of the server's
event loop, and by how much a timer that fires every millisecond was late at most: that includes
other threads that hold the interpreter. Both in milliseconds; the second depends on what else the
machine does, so its median over the rounds is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import queue
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import httpx

from benchmarks.processes import Started
from bridge.cli.common import settings_from
from bridge.core.claude import hermetic_environment
from bridge.core.system import freeze_garbage
from bridge.server import FrontEnds, serving
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub

_TIMER_SECONDS: Final = 0.001
_TEXT: Final = "x" * 60
_MODULE: Final = "benchmarks.longest_step"
_CHANNEL: Final = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Watch:
    """Watches the event loop of the process it runs in."""

    def __init__(self) -> None:
        self.step = self.late = 0.0

    def install(self) -> None:
        """Time each step of all loops of this process, and start the timer on the running one."""
        run = asyncio.events.Handle._run

        def timed(handle: asyncio.events.Handle) -> None:
            before = time.thread_time()
            run(handle)
            self.step = max(self.step, time.thread_time() - before)

        asyncio.events.Handle._run = timed  # type: ignore[assignment,method-assign]
        self._tick(asyncio.get_running_loop())

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + _TIMER_SECONDS

        def fire() -> None:
            self.late = max(self.late, loop.time() - due)
            self._tick(loop)

        loop.call_at(due, fire)


async def _serve() -> None:
    """Serve until stdin ends; each line of it asks for the figures since the last one."""
    watch = Watch()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for _ in sys.stdin:
            print(f"step {watch.step * 1000} late {watch.late * 1000}", flush=True)
            watch.step = watch.late = 0.0
        loop.call_soon_threadsafe(stopping.set)

    async with serving(settings_from({}), FrontEnds()) as bridge:
        freeze_garbage()
        watch.install()
        threading.Thread(target=listen, daemon=True).start()
        print(f"http {bridge.http_port} grpc {bridge.grpc_port}", flush=True)
        await stopping.wait()


class Served:
    """The watched server, in a process of its own, and clients of it."""

    def __init__(self, http: int, rpc: int, figures: Callable[[], tuple[float, float]]) -> None:
        self.figures = figures
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{http}/v1", timeout=600, trust_env=False
        )
        self.stub = CompletionServiceStub(
            grpc.insecure_channel(f"127.0.0.1:{rpc}", options=_CHANNEL)
        )

    def post(self, path: str, body: object) -> Any:
        """Send a request over HTTP and return the answer, which may be an error."""
        reply = self.http.post(path, content=json.dumps(body))
        if reply.status_code != 200:
            print(f"{path}: {reply.status_code} {reply.text[:200]}", file=sys.stderr)
        return reply.json()


Case = Callable[[Served], object]


def _chat(*messages: object, **more: object) -> Case:
    body = {"messages": messages, "max_tokens": 16, **more}
    return lambda served: served.post("/chat/completions", body)


def _turns(count: int, text: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i in range(count)]
    return [*turns, {"role": "user", "content": "Done?"}]


def _function(i: int, schema: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": f"tool_{i}", "parameters": schema}}


def _object(properties: int, description: str = "") -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            f"p{i}": {"type": "string", "description": description} for i in range(properties)
        },
        "required": [f"p{i}" for i in range(properties)],
        "additionalProperties": False,
    }


def _calls(count: int, size: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Go."}]
    for i in range(count):
        call = {
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": "tool_0", "arguments": json.dumps({"p0": "x" * size})},
        }
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": "x" * 100})
    return messages


def _grpc(turns: int) -> Case:
    request = pb.CompleteRequest(completion=pb.CompletionSpec(max_output_tokens=16))
    for i in range(turns):
        role = pb.ROLE_ASSISTANT if i % 2 else pb.ROLE_USER
        request.completion.messages.add(role=role).parts.add(text=_TEXT)
    request.completion.messages.add(role=pb.ROLE_USER).parts.add(text="Done?")

    def case(served: Served) -> None:
        try:
            list(served.stub.Complete(request, timeout=600))
        except grpc.RpcError as error:
            print(f"Complete: {error}", file=sys.stderr)

    return case


def _stored(items: int) -> Case:
    def case(served: Served) -> object:
        first = served.post("/responses", {"input": _turns(items, _TEXT)})
        more = {"input": "And?", "previous_response_id": first["id"]}
        return served.post("/responses", more)

    return case


def _later_turn(turns: int) -> Case:
    opening = pb.OpenConversation(completion=pb.CompletionSpec(max_output_tokens=16))
    for i in range(turns):
        opening.completion.messages.add(
            role=pb.ROLE_ASSISTANT if i % 2 else pb.ROLE_USER
        ).parts.add(text=_TEXT)

    def case(served: Served) -> None:
        sent: queue.SimpleQueue[pb.ConverseRequest | None] = queue.SimpleQueue()
        sent.put(pb.ConverseRequest(open=opening))
        ask = pb.ConverseRequest(message=pb.UserMessage(parts=[pb.Part(text="Done?")]))
        sent.put(ask)
        turns = 0
        for event in served.stub.Converse(iter(sent.get, None), timeout=600):
            if event.event.HasField("finished"):
                turns += 1
                if turns == 1:
                    served.figures()
                sent.put(ask if turns == 1 else None)

    return case


def cases() -> Iterator[tuple[str, Case]]:
    """Yield the largest request of each bound."""
    user = {"role": "user", "content": "Hello"}
    yield "a small request", _chat(user)
    yield "9,999 messages", _chat(*_turns(9_998, _TEXT))
    yield "9,999 messages over gRPC", _grpc(9_998)
    parts = [{"type": "text", "text": "word"}] * 9_999
    yield (
        "30,000 parts",
        _chat(*[{"role": role, "content": parts} for role in ("user", "assistant", "user")]),
    )
    yield "a text of 31 MB", _chat({"role": "user", "content": "x" * 31_000_000})
    yield "a text of 31 MB of brackets", _chat({"role": "user", "content": "< " * 15_500_000})
    yield (
        "a text input of 31 MB",
        lambda served: served.post("/responses", {"input": "x" * 31_000_000}),
    )
    texts = [{"type": "text", "text": "x" * 900_000}] * 34
    yield "34 texts of 0.9 MB", _chat({"role": "user", "content": texts})
    yield "999 tools", _chat(user, tools=[_function(i, _object(5, "x" * 500)) for i in range(999)])
    yield "a schema of 1,990 subschemas", _chat(user, tools=[_function(0, _object(1_990))])
    form = {"name": "answer", "schema": _object(1_990), "strict": True}
    yield (
        "an answer's schema",
        _chat(user, response_format={"type": "json_schema", "json_schema": form}),
    )
    tools = [_function(0, _object(1))]
    yield "2,000 calls with results", _chat(*_calls(2_000, 100), tools=tools)
    yield "14 calls of 1.9 MB", _chat(*_calls(14, 1_900_000), tools=tools)
    *called, result = _calls(1, 100)
    large = {**result, "content": "x" * 31_000_000}
    yield "a result of 31 MB", _chat(*called, large, tools=tools)
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}}
    yield "600 images", _chat({"role": "user", "content": [image] * 600})
    document = base64.b64encode(b"x" * 22_000_000).decode()
    data = f"data:text/plain;base64,{document}"
    file = {"type": "file", "file": {"filename": "a.txt", "file_data": data}}
    yield "a document of 22 MB", _chat({"role": "user", "content": [file]})
    yield "stop texts", _chat(user, stop=["x" * 999 + str(i) for i in range(4)])
    yield "the second turn after 9,996 messages", _later_turn(9_996)
    yield "5,000 stored items", _stored(4_998)


async def _measure(rounds: int, only: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulator = await Started.start(
            ("bridge.simulator", "--port", "0", "--keep-requests", "1"),
            hermetic_environment(os.environ, folder, ""),
            folder / "simulator.log",
        )
        try:
            api = (await simulator.printed(r"http://\S+"))[0]
            await _measure_on(api, folder, rounds, only)
        finally:
            await simulator.stop()


async def _measure_on(api: str, folder: Path, rounds: int, only: str) -> None:
    env = {
        **hermetic_environment(os.environ, folder, api),
        "BRIDGE_STATE_DIR": str(folder),
        "TMPDIR": str(folder),
        "PORT": "0",
        "GRPC_PORT": "0",
        "POOL_SIZE": "2",
        "CLAUDE_TIMEOUT": "600",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _MODULE,
        "--serve",
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while not (line := (await process.stdout.readline()).decode()).startswith("http "):
            if not line:
                raise SystemExit("the server has not started")
        _, http, _, rpc = line.split()
        loop = asyncio.get_running_loop()

        async def ask() -> tuple[float, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"\n")
            _, step, _, late = (await process.stdout.readline()).decode().split()
            return float(step), float(late)

        def figures() -> tuple[float, float]:
            return asyncio.run_coroutine_threadsafe(ask(), loop).result()

        served = Served(int(http), int(rpc), figures)
        await asyncio.to_thread(_run, served, rounds, only)
    finally:
        process.stdin.close()
        await process.wait()


def _run(served: Served, rounds: int, only: str) -> None:
    served.post("/chat/completions", {"messages": _turns(0, "")})
    print("| request | longest step, CPU ms | others wait at most, ms |\n|---|---|---|", flush=True)
    for name, case in cases():
        if only not in name:
            continue
        steps, lates = [], []
        for _ in range(rounds):
            served.figures()
            case(served)
            step, late = served.figures()
            steps.append(step)
            lates.append(late)
        print(f"| {name} | {max(steps):.0f} | {statistics.median(lates):.0f} |", flush=True)


def main() -> None:
    """Serve, or measure."""
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a request's name")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    asyncio.run(_serve() if options.serve else _measure(options.rounds, options.only))


if __name__ == "__main__":
    main()
