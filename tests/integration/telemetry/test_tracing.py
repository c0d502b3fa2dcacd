"""Traces: the content of spans, and one trace from a caller through to Claude Code."""

from __future__ import annotations

import gzip
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest

from bridge.core.contract.events import Finished, FinishReason, Started, TextDelta
from bridge.core.contract.request import CompletionRequest, OutputFormat, OutputKind, Sampling
from bridge.core.contract.states import SessionSource
from bridge.core.contract.usage import Cost, Usage
from bridge.core.telemetry.request_record import RequestRecord, TraceContext, incoming_trace
from bridge.core.telemetry.tracing import cli_environment, is_wanted, start_tracing
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.harness import PATIENCE, RunningBridge, sim

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_made_only_where_opentelemetrys_variables_ask_for_them(
    environ: dict[str, str], wanted: bool
) -> None:
    assert is_wanted(environ) is wanted


def test_claude_code_is_configured_to_trace_but_the_users_settings_win() -> None:
    told = cli_environment(
        {**ENDPOINT, "CLAUDE_CODE_ENABLE_TELEMETRY": "0", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    )
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == ENDPOINT["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert told["CLAUDE_CODE_ENABLE_TELEMETRY"] == "0"
    assert told["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
    assert told["CLAUDE_CODE_ENHANCED_TELEMETRY_BETA"] == "1"


def test_without_the_extra_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    said: list[str] = []
    assert start_tracing(ENDPOINT, said.append) is None
    assert "opentelemetry-sdk" in said[0]


def test_where_none_are_asked_for_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, bridge.core.telemetry.tracing as t; assert t.start_tracing({}) is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout == "[]\n"


class Tracer:
    """A tracer whose spans stay here."""

    def __init__(self) -> None:
        pytest.importorskip("opentelemetry.sdk")
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from bridge.core.telemetry.tracing import Tracing

        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider)

    @property
    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def tracer() -> Tracer:
    return Tracer()


def begun(tracer: Tracer, **changes: Any) -> RequestRecord:
    request = CompletionRequest((), request_id="req_1", api="http", **changes)
    record = RequestRecord(request, 50.0, started_on=1_000.0)
    tracer.tracing.began(record)
    return record


def test_a_request_is_a_span_with_the_conventions_attributes_and_three_children(
    tracer: Tracer,
) -> None:
    record = begun(
        tracer,
        model="opus",
        max_output_tokens=9,
        sampling=Sampling(temperature=0.5, stop=("END",)),
        output_format=OutputFormat(OutputKind.JSON_OBJECT),
    )
    record.leased(SessionSource.WARM, 50.25)
    record.times.asked_at = 50.5
    record.see(Started("claude-opus-9"), 51.0)
    record.see(TextDelta("secret"), 51.0)
    record.see(Finished(FinishReason.STOP, Usage(1, 2, 3, 4)), 52.0)
    record.times.ended_at = 52.0
    record.cost = Cost(0.25)
    tracer.tracing.booked(record)
    spans = tracer.spans
    assert list(spans) == ["queue", "prepare", "answer", "chat opus"]
    root = spans["chat opus"]
    assert dict(root.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "opus",
        "gen_ai.output.type": "json",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "req_1",
        "gen_ai.response.model": "claude-opus-9",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 1.0,
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.cache_creation.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "bridge.request.id": "req_1",
        "bridge.api": "http",
        "bridge.cost_usd": 0.25,
        "bridge.payer": "default",
        "bridge.session": "warm",
    }
    assert root.kind.name == "CLIENT"
    assert root.status.is_unset
    assert root.parent is None
    times = {name: (span.start_time / 1e9, span.end_time / 1e9) for name, span in spans.items()}
    assert times == {
        "queue": (1000.0, 1000.25),
        "prepare": (1000.25, 1000.5),
        "answer": (1000.5, 1002.0),
        "chat opus": (1000.0, 1002.0),
    }
    children = [spans[name] for name in ("queue", "prepare", "answer")]
    assert {child.parent.span_id for child in children} == {root.context.span_id}
    assert "secret" not in str([span.to_json() for span in spans.values()])


def test_a_request_that_failed_in_the_queue_has_its_error_and_no_more_children(
    tracer: Tracer,
) -> None:
    record = begun(tracer)
    record.error, record.times.ended_at = "QUEUE_FULL", 51.0
    tracer.tracing.booked(record)
    assert list(tracer.spans) == ["queue", "chat default"]
    root = tracer.spans["chat default"]
    assert not root.status.is_ok
    assert root.attributes["error.type"] == "QUEUE_FULL"
    assert (tracer.spans["queue"].end_time / 1e9) == 1001.0


@pytest.mark.parametrize(
    ("parent", "continued"), [(PARENT, True), ("nonsense", False), (PARENT[:-1], False)]
)
def test_the_trace_of_a_caller_is_continued_if_it_is_valid(
    tracer: Tracer, parent: str, continued: bool
) -> None:
    token = incoming_trace.set(TraceContext(parent, "vendor=1"))
    record = begun(tracer)
    incoming_trace.reset(token)
    tracer.tracing.booked(record)
    root = tracer.spans["chat default"]
    assert (f"{root.context.trace_id:032x}" == TRACE) is continued
    assert (root.parent is not None) is continued
    span = f"{root.context.span_id:016x}"
    # Sampled; a trace that begins here is marked as random, too.
    flags = "01" if continued else "03"
    assert record.trace_parent == f"00-{root.context.trace_id:032x}-{span}-{flags}"


class Collector:
    """Takes spans by OTLP, as a collector of OpenTelemetry does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.instances: dict[str, str] = {}
        """The names of instances by their services."""
        self._arrived = threading.Condition()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    collector.take(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        request = ExportTraceServiceRequest.FromString(body)
        with self._arrived:
            for resource in request.resource_spans:
                named = {each.key: each.value.string_value for each in resource.resource.attributes}
                self.instances[named["service.name"]] = named.get("service.instance.id", "")
                for scope in resource.scope_spans:
                    self.spans += scope.spans
            self._arrived.notify_all()

    def wait_for(self, name: str, trace: str) -> Any:
        """Wait for a span of a trace."""

        def found() -> Any:
            wanted = (name, bytes.fromhex(trace))
            return next((s for s in self.spans if (s.name, s.trace_id) == wanted), None)

        with self._arrived:
            assert self._arrived.wait_for(found, PATIENCE), {s.name for s in self.spans}
            return found()


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    collecting = Collector()
    thread = threading.Thread(target=collecting.server.serve_forever, args=(0.01,))
    thread.start()
    yield collecting
    collecting.server.shutdown()
    thread.join(PATIENCE)
    collecting.server.server_close()


def test_one_trace_goes_from_the_caller_by_either_api_through_to_claude_code(
    collector: Collector,
    start_bridge: Callable[..., RunningBridge],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    bridge = start_bridge(pool_size=1, bridge_replica="bridge-7")
    traces = {api: f"{n:x}bf92f3577b34da6a3ce929d0e0e4736" for n, api in enumerate(("h", "g"), 1)}
    prompts = {api: f"traced-{api} {sim(text='ok')}" for api in traces}
    parents = {api: f"00-{trace}-00f067aa0ba902b7-01" for api, trace in traces.items()}
    messages = [{"role": "user", "content": prompts["h"]}]
    reply = httpx.post(
        f"{bridge.url}/v1/chat/completions",
        json={"model": "default", "messages": messages},
        headers={"traceparent": parents["h"]},
        timeout=PATIENCE,
    )
    assert reply.status_code == 200
    bridge.wait_until_settled()
    answer = reply.json()["choices"][0]["message"]["content"]
    again = httpx.post(
        f"{bridge.url}/v1/chat/completions",
        json={
            "model": "default",
            "messages": [
                *messages,
                {"role": "assistant", "content": answer},
                {"role": "user", "content": "and on"},
            ],
        },
        timeout=PATIENCE,
    )
    lines = [json.loads(line) for line in bridge.log_path.read_text().splitlines()]
    (line,) = [line for line in lines if line["request_id"] == again.headers["x-request-id"]]
    assert line["session"] == "continued"
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=prompts["g"])])
    with grpc.insecure_channel(bridge.target) as channel:
        list(
            CompletionServiceStub(channel).Complete(
                pb.CompleteRequest(completion=pb.CompletionSpec(messages=[message])),
                metadata=(("traceparent", parents["g"]),),
                timeout=PATIENCE,
            )
        )
    for api, trace in traces.items():
        root = collector.wait_for("chat default", trace)
        assert root.parent_span_id.hex() == "00f067aa0ba902b7"
        assert collector.instances["claude-code-bridge"] == "bridge-7"
        for child in ("queue", "prepare", "answer"):
            assert collector.wait_for(child, trace).parent_span_id == root.span_id
        # Claude Code's own spans of the turn, in the same trace.
        assert collector.wait_for("claude_code.interaction", trace).parent_span_id == root.span_id
        exchange = next(iter(bridge.simulator.ledger.exchanges(containing=f"traced-{api}")))
        assert exchange.headers["traceparent"].split("-")[1] == trace


def test_a_collector_that_is_not_there_costs_no_answer_and_no_end(
    start_bridge: Callable[..., RunningBridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("bridge.core.telemetry.tracing.CLOSE_SECONDS", 0.1)
    bridge = start_bridge(pool_size=1, bridge_spares=0)
    messages = [{"role": "user", "content": sim(text="ok")}]
    reply = httpx.post(
        f"{bridge.url}/v1/chat/completions",
        json={"model": "default", "messages": messages},
        timeout=PATIENCE,
    )
    assert reply.json()["choices"][0]["message"]["content"] == "ok"
    bridge.stop()
