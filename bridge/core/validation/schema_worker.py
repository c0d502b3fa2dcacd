"""A program that checks JSON schemas, and answers against them, for `schema_checker`.

It is a separate process because a check can take forever in code that holds the interpreter's lock:
only a process can then be killed. It reads one job per line from stdin and writes one line with the
result, after a first one when it is ready. It ends with its input.
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
    """Work until the end of the input; a job that takes more than `seconds` ends the process."""
    with contextlib.suppress(ValueError, OSError):
        # Not all systems support the limit.
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    print("{}", flush=True)
    for line in sys.stdin.buffer:
        # The server, if it is still alive, kills it sooner.
        signal.alarm(seconds)
        fault = fault_of(json.loads(line))
        signal.alarm(0)
        print(json.dumps({"fault": fault}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
