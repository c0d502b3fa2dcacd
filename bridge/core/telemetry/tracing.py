"""OpenTelemetry traces, with the semantic conventions for generative AI.

One span per request, with children for the queue, for preparing the session and for the answer. It
continues the caller's trace (W3C `traceparent`), and Claude Code's own spans continue it.
OpenTelemetry is imported only if enabled: the extra `tracing` installs it.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from bridge import __version__
from bridge.core.contract import CompletionRequest, OutputKind
from bridge.core.telemetry.request_record import RequestRecord, incoming_trace, shown_model

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
CLOSE_SECONDS: Final = 5.0
"""How long a stopping server waits for a collector to accept the last spans, in seconds."""

_CLI_ENVIRONMENT: Final = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA": "1",
    "CLAUDE_CODE_PROPAGATE_TRACEPARENT": "1",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}
"""Enables Claude Code's own traces. Prompts are in its spans only with OTEL_LOG_USER_PROMPTS."""


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment enables traces, with OpenTelemetry's own variables."""
    return (
        any(environ.get(name) for name in ENDPOINTS)
        and environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and environ.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
    )


def cli_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that Claude Code needs for its spans; the operator's values win."""
    own = {name: value for name, value in environ.items() if name.startswith("OTEL_")}
    set_already = {name: environ[name] for name in _CLI_ENVIRONMENT if name in environ}
    return {**_CLI_ENVIRONMENT, **own, **set_already}


def start_tracing(
    environ: Mapping[str, str], say: Callable[[str], None] = logger.info, replica: str = ""
) -> Tracing | None:
    """Start tracing if the environment enables it; `say` reports missing packages.

    `replica` is the name of this server, which the environment may override.
    """
    if not is_wanted(environ):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(environ)
    except ImportError:
        say(
            "tracing is disabled: install opentelemetry-sdk and "
            "opentelemetry-exporter-otlp-proto-http, or set OTEL_TRACES_EXPORTER=none"
        )
        return None
    resource = Resource.create({"service.version": __version__})
    given = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not environ.get("OTEL_SERVICE_NAME") and "service.name" not in given:
        resource = resource.merge(Resource({"service.name": "claude-code-bridge"}))
    if replica and "service.instance.id" not in given:
        resource = resource.merge(Resource({"service.instance.id": replica}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def _exporter(environ: Mapping[str, str]) -> SpanExporter:
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if protocol == "grpc":
        # Not in the extra: the operator has to install it.
        from importlib import import_module

        module = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
        exporter: SpanExporter = module.OTLPSpanExporter()
        return exporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


class Tracing:
    """Creates the spans of each request. An Observer."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._api = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("claude-code-bridge", __version__)

    def began(self, record: RequestRecord) -> None:
        """Start the span of a request, and set the parent of Claude Code's own spans."""
        request = record.request
        incoming = incoming_trace.get()
        carrier: dict[str, str] = {}
        if incoming is not None:
            carrier = {"traceparent": incoming.parent, "tracestate": incoming.state}
        span = self._tracer.start_span(
            f"chat {shown_model(request) or 'default'}",
            self._propagator.extract(carrier),
            self._api.SpanKind.CLIENT,
            request_attributes(request),
            start_time=_nanoseconds(record.times.started_on),
        )
        context = self._api.set_span_in_context(span)
        outgoing: dict[str, str] = {}
        self._propagator.inject(outgoing, context)
        record.trace_parent = outgoing.get("traceparent", "")
        record.trace_state = (span, context)

    def ended(self, record: RequestRecord) -> None:
        """Do nothing: the cost follows."""

    def booked(self, record: RequestRecord) -> None:
        """End the span, with its children."""
        span, context = record.trace_state
        times = record.times

        def at(moment: float) -> int:
            return _nanoseconds(times.started_on + times.since_start(moment))

        moments = (times.started_at, times.leased_at, times.asked_at, times.ended_at)
        names = ("queue", "prepare", "answer")
        for name, began, ended in zip(names, moments, moments[1:], strict=False):
            if began is not None:
                # A phase that was not reached ends where the request ended.
                over = times.ended_at if ended is None else ended
                child = self._tracer.start_span(name, context, start_time=at(began))
                child.end(at(over))
        span.set_attributes(answer_attributes(record))
        if record.error:
            status = self._api.Status(self._api.StatusCode.ERROR, record.error)
            span.set_status(status)
        span.end(at(times.ended_at))

    def close(self) -> None:
        """Send the remaining spans; an unresponsive collector is not awaited for long."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def request_attributes(request: CompletionRequest) -> dict[str, Any]:
    """Return a span's attributes of a request, without any content."""
    kind = request.output_format.kind
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": shown_model(request) or "default",
        "gen_ai.output.type": None if kind is OutputKind.TEXT else "json",
        "gen_ai.request.max_tokens": request.max_output_tokens,
        "gen_ai.request.temperature": request.sampling.temperature,
        "gen_ai.request.top_p": request.sampling.top_p,
        "bridge.request.id": request.request_id,
        "bridge.api": request.api,
        "bridge.key": request.caller or None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def answer_attributes(record: RequestRecord) -> dict[str, Any]:
    """Return a span's attributes of the result."""
    finished, usage = record.finished, record.usage
    attributes: dict[str, Any] = {
        "gen_ai.response.id": record.request.request_id,
        "gen_ai.response.model": record.model or None,
        "gen_ai.response.finish_reasons": (str(finished.reason),) if finished else None,
        "error.type": record.error or None,
        "bridge.cost_usd": record.cost.rounded_usd,
        "bridge.payer": record.payer,
        "bridge.session": record.session_source and str(record.session_source),
    }
    if usage is not None:
        attributes |= {
            # Including cached tokens, as the conventions require.
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
        }
    times = record.times
    if times.first_token_at is not None:
        first = times.since_start(times.first_token_at)
        attributes["gen_ai.response.time_to_first_chunk"] = first
    return {name: value for name, value in attributes.items() if value is not None}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
