"""`tests/unit` mirrors `bridge`: each module has its test file, or a reason not to have one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest

from tests.support.paths import ROOT

UNIT = ROOT / "tests" / "unit"

ELSEWHERE: Mapping[str, str] = {
    "__main__": "One line that calls bridge.cli.",
    "cli/": "Commands are run as a user runs them, in tests/integration/cli.",
    "cli/doctor": "tests/integration/doctor/test_doctor.py",
    "cli/logs": "tests/unit/core/telemetry/test_session_log_reader.py",
    "cli/tour": "It is run by tests/integration/server/test_listening.py.",
    "client/": "tests/integration/client/test_client.py: all of it against one small server.",
    "core/access/counts": "With tests/unit/core/access/test_decision.py and test_quotas.py.",
    "core/access/local_counts": "tests/integration/redis/test_limits.py, and test_quotas.py there.",
    "core/access/redis_script": "With a real Redis: tests/integration/redis/test_limits.py.",
    "core/access/spending": "With tests/unit/core/access/test_quotas.py.",
    "core/answers/database": "With tests/unit/core/answers/test_sqlite.py.",
    "core/answers/file": "With tests/unit/core/answers/test_sqlite.py.",
    "core/answers/fleet": "With tests/unit/core/answers/in_redis/test_fleet.py.",
    "core/answers/in_redis/": "With tests/unit/core/answers/test_store.py.",
    "core/answers/streamed": "With tests/unit/core/answers/test_running.py.",
    "core/answers/texts": "With tests/unit/core/answers/test_store.py and its neighbours.",
    "core/claude/": "With the real CLI: tests/integration/claude and tests/integration/engine.",
    "core/claude/capabilities": "tests/integration/probe/test_fallbacks.py",
    "core/claude/client_tools": "With tests/unit/core/claude/test_session.py.",
    "core/claude/failures/reader": "With tests/unit/core/claude/failures/test_kinds.py.",
    "core/claude/failures/results": "With tests/unit/core/claude/failures/test_kinds.py.",
    "core/claude/inbox": "With tests/unit/core/claude/test_session.py.",
    "core/claude/tool_definitions": "tests/integration/prompts/test_exact.py",
    "core/claude/turns": "With tests/unit/core/claude/test_turn_settings.py.",
    "core/contract/": "Data without decisions; tests everywhere are made of it.",
    "core/engine/": "It needs the CLI: tests/integration/engine and tests/integration/faults.",
    "core/intake/": "Around an engine: tests/integration/engine/test_costs.py and its neighbours.",
    "core/payers/routing": "With tests/unit/core/payers/test_payers.py.",
    "core/payers/shared_marks": "With a real Redis: tests/integration/redis/test_marks.py.",
    "core/ledger/questions": "Over every API: tests/integration/parity/test_usage.py.",
    "core/ledger/tables": "With tests/unit/core/ledger/test_ledger.py.",
    "core/pool/": "The parts of one pool: tests/unit/core/pool/test_pool.py.",
    "core/pool/starts": "tests/integration/faults/test_crash_loop.py",
    "core/pool/watchdog": "tests/integration/faults/test_process.py",
    "core/redis/": "With a real Redis: tests/integration/redis/test_link.py.",
    "core/system/": "A process of its own: tests/integration/system/test_orphan_guard.py.",
    "core/telemetry/": "What leaves the server: tests/integration/telemetry.",
    "core/validation/": "Each rule is broken in tests/integration/parity/test_every_api.py.",
    "core/validation/schema_worker": "tests/integration/engine/test_schema_checker.py",
    "core/validation/schemas": "tests/unit/core/validation/test_references.py and its neighbours.",
    "doctor/": "It examines a machine: tests/integration/doctor.",
    "grpc_server/": "On a real socket, in tests/integration/grpc_server.",
    "grpc_server/wire/decode": "tests/unit/grpc_server/test_codec.py",
    "grpc_server/wire/encode": "tests/unit/grpc_server/test_codec.py",
    "grpc_server/wire/unknown_fields": "tests/integration/grpc_server/test_unknown_fields.py",
    "http_server/": "All of it in one app: tests/unit/http_server/test_app.py.",
    "http_server/anthropic/": "With their neighbours in tests/unit/http_server/anthropic.",
    "http_server/connection": "tests/integration/http_server/test_connection.py",
    "http_server/dialect": "A protocol; tests/support/http/telegraph.py fills it in.",
    "http_server/dialects": "tests/integration/http_server/test_dialects.py",
    "http_server/feeding": "tests/integration/http_server/test_uploads.py",
    "http_server/middleware/": "With tests/unit/http_server/middleware/test_access.py.",
    "http_server/middleware/head": "tests/integration/http_server/test_head.py",
    "http_server/openai/": "With their neighbours in tests/unit/http_server/openai.",
    "http_server/wire/": "With the dialects that read by it: tests/unit/http_server/openai.",
    "lazy_face": "tests/system/docs/test_faces.py",
    "probe/": "Each check asks the real CLI, in tests/integration/probe.",
    "server/": "Whole servers: tests/integration/server and tests/integration/cli.",
    "simulator/": "On a real socket, in tests/integration/simulator.",
    "simulator/api/": "With tests/unit/simulator/api/test_rules.py and test_answers.py.",
}
"""Of a module or of the others in a folder: why it has none, and what tests it instead."""

NO_MODULE: Mapping[str, str] = {
    "fuzzing/test_decoders": "One property of the decoders of every API.",
    "grpc_server/test_client_stub": "What a user of the stub does; there is no server in it.",
    "grpc_server/test_codec": "decode and encode, of which one undoes the other.",
    "grpc_server/test_compatibility": "The files in proto/.",
    "grpc_server/test_proto_style": "The files in proto/.",
    "http_server/openai/chat/test_encode": "reply and stream, of the same events.",
    "http_server/openai/shared/test_parameters": "The tables of chat and legacy completions.",
    "http_server/openai/test_unknown_names": "One rule for the bodies of all endpoints.",
    "probe/test_relied_on": "launch.py and control.py, against the list of the probe.",
    "prompts/test_closed_set": "One property of all that is said to Claude Code.",
}


def modules() -> Iterator[str]:
    for path in (ROOT / "bridge").rglob("*.py"):
        if path.name != "__init__.py" and "_pb2" not in path.name:
            yield path.relative_to(ROOT / "bridge").with_suffix("").as_posix()


def mirrored(module: str) -> str:
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}" if folder else f"test_{name}"


TESTS = {path.relative_to(UNIT).with_suffix("").as_posix() for path in UNIT.rglob("test_*.py")}
WITHOUT = {module for module in modules() if mirrored(module) not in TESTS}


def reason_for(module: str) -> str | None:
    """The entry for a module: its own, or else that of the nearest folder."""
    if module in ELSEWHERE:
        return module
    folder = module
    while "/" in folder:
        folder = folder.rpartition("/")[0]
        if f"{folder}/" in ELSEWHERE:
            return f"{folder}/"
    return None


def test_every_module_has_its_test_file_or_a_reason() -> None:
    assert sorted(module for module in WITHOUT if reason_for(module) is None) == []


def test_every_reason_is_needed() -> None:
    assert {reason_for(module) for module in WITHOUT} == set(ELSEWHERE)


def test_every_test_file_has_its_module_or_a_reason() -> None:
    assert TESTS - {mirrored(module) for module in modules()} == set(NO_MODULE)


@pytest.mark.parametrize("reason", sorted({*ELSEWHERE.values(), *NO_MODULE.values()}))
def test_what_a_reason_names_is_there(reason: str) -> None:
    for path in re.findall(r"(?:tests|bridge|proto)/[\w/]*(?:\.py)?", reason):
        assert (ROOT / path).exists(), path
