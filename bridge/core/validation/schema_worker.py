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
from typing import Final

from bridge.core.validation.schemas import fault_of

_MEMORY_BYTES: Final = 2 * 1024**3


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
