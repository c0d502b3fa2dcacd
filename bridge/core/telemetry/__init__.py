"""Records of requests: the session log, the metrics, the traces."""

from bridge.core.telemetry.metrics import Metrics
from bridge.core.telemetry.occupancy import Limit, Occupancy
from bridge.core.telemetry.recent import RecentRequests
from bridge.core.telemetry.redaction import (
    kind_of,
    on_loop_error,
    on_unraisable,
    trace_of,
)
from bridge.core.telemetry.request_record import (
    Observer,
    Observers,
    RequestRecord,
    TraceContext,
    incoming_trace,
)
from bridge.core.telemetry.server_log import HealthLog, JsonFormatter, ServerLog, TextFormatter
from bridge.core.telemetry.session_log import Rotation, SessionLog
from bridge.core.telemetry.session_log_reader import COLUMNS, Entry, LogReader, cells, wanted
from bridge.core.telemetry.tracing import cli_environment, start_tracing

__all__ = [
    "COLUMNS",
    "Entry",
    "HealthLog",
    "JsonFormatter",
    "Limit",
    "LogReader",
    "Metrics",
    "Observer",
    "Observers",
    "Occupancy",
    "RecentRequests",
    "RequestRecord",
    "Rotation",
    "ServerLog",
    "SessionLog",
    "TextFormatter",
    "TraceContext",
    "cells",
    "cli_environment",
    "incoming_trace",
    "kind_of",
    "on_loop_error",
    "on_unraisable",
    "start_tracing",
    "trace_of",
    "wanted",
]
