"""A program that checks JSON schemas, and answers against them, for `schema_checker`.

A process of its own, because a check can take for ever, in code that holds the interpreter's lock:
only a process can be killed then. It reads a job a line from stdin and writes a line with its
outcome, after a first one once it is ready. It ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

from bridge.core.schemas import fault_of_answer, fault_of_schema
from bridge.core.tool_schemas import fault_of_parameters

_MEMORY_BYTES: Final = 2 * 1024**3


def fault_of(job: Mapping[str, Any]) -> str:
    """What is wrong with what a job is about; "" where nothing is."""
    match job:
        case {"kind": "tool", "schema": schema}:
            return fault_of_parameters(schema)
        case {"kind": "schema", "schema": schema}:
            return fault_of_schema(schema)
        case {"kind": "answer", "schema": schema, "answer": answer}:
            return fault_of_answer(schema, answer)
    raise ValueError(job)


def main(seconds: int) -> None:
    """Work until there is no more input; a job that takes longer than this ends the process."""
    with contextlib.suppress(ValueError, OSError):
        # Not all systems limit it.
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    print("{}", flush=True)
    for line in sys.stdin.buffer:
        # The server kills it sooner, where there still is one.
        signal.alarm(seconds)
        fault = fault_of(json.loads(line))
        signal.alarm(0)
        print(json.dumps({"fault": fault}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
