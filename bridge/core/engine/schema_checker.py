"""Checks schemas and answers off the event loop, in a worker process that can be killed.

The worker starts on first use, does one job at a time, and is replaced when a job takes too long.
Callers take turns, and results for a schema are remembered: a schema that was too expensive is
refused at once the next time, before the model is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from bridge.core.access import FairTurns
from bridge.core.claude import Command, LineProcess, ProcessGoneError
from bridge.core.contract import (
    CompletionRequest,
    DrainingError,
    InvalidRequestError,
    JsonObject,
    ProcessFailedError,
)
from bridge.core.engine.planning import errors_named_for, tools_of
from bridge.core.system import OrphanGuard
from bridge.core.validation import UnfitAnswerError, fault_of, measure

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

CHECK_SECONDS: Final = 10.0
"""How long one check may take: many times what the largest schema within the bounds needs."""

REFUSED_SECONDS: Final = 600.0
"""How long a schema that was too expensive is refused: not forever, since the machine may have been
the cause."""

_START_SECONDS: Final = 60.0
_KEPT: Final = 4096
_VALUES_AT_ONCE: Final = 80
"""Schemas with at most this many values altogether are checked in-process, at half a millisecond
each: that is faster than asking the worker, and does not wait for others' checks."""


class SchemaChecker:
    """Call `aclose` in the end."""

    def __init__(
        self,
        guard: OrphanGuard | None = None,
        seconds: float = CHECK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self.seconds = seconds
        """How long one check may take, in seconds."""
        self._clock = clock
        self._known: dict[bytes, str] = {}
        """The faults of schemas by hash, "" for none; the oldest first."""
        self._expensive: dict[bytes, float] = {}
        """Until when schemas are refused, by hash; the oldest first."""
        self._turns = FairTurns()
        self._worker: LineProcess | None = None
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._closed = False

    @property
    def worker_pid(self) -> int | None:
        """The process id of the worker, or None."""
        return None if self._worker is None else self._worker.pid

    async def admit(self, request: CompletionRequest) -> None:
        """Raise InvalidRequestError for an invalid schema, or one that the API would refuse."""
        jobs = [
            ("tool", tool.parameters, "tools", f"The parameters of the tool {tool.name[:64]!r}: ")
            for tool in tools_of(request)[0]
        ]
        if request.output_format.schema is not None:
            jobs.append(("schema", request.output_format.schema, "output_format", ""))
        with errors_named_for(request):
            await self._admit(jobs, request.caller)

    async def _admit(self, jobs: Sequence[tuple[str, JsonObject, str, str]], caller: str) -> None:
        room = _VALUES_AT_ONCE
        for kind, schema, field, what in jobs:
            if kind == "schema":
                self._check_cost(_key("answer", schema), field)
            key = _key(kind, schema)
            fault = self._known.get(key)
            if fault is None:
                room -= measure(schema, levels=room, values=room).values
                job = {"kind": kind, "schema": schema}
                if room >= 0:
                    fault = fault_of(job)
                else:
                    fault = await self._outcome(job, key, field, caller)
                _keep(self._known, key, fault)
            if fault:
                end = "." if what else ""
                raise InvalidRequestError(f"{what}{fault}{end}", field=field)

    async def check_answer(self, schema: JsonObject, answer: str, caller: str = "") -> None:
        """Raise UnfitAnswerError for an answer that does not match the schema.

        Raises InvalidRequestError if the check takes too long.
        """
        job = {"kind": "answer", "schema": schema, "answer": answer}
        key = _key("answer", schema)
        if fault := await self._outcome(job, key, "output_format", caller):
            raise UnfitAnswerError(fault)

    async def aclose(self) -> None:
        """Kill the worker and refuse all waiting jobs."""
        self._closed = True
        await self._end()
        async with self._turns.turn(""):
            pass

    def _check_cost(self, key: bytes, field: str) -> None:
        if self._expensive.get(key, -math.inf) > self._clock():
            raise self._too_expensive(field)

    async def _outcome(self, job: Mapping[str, Any], key: bytes, field: str, caller: str) -> str:
        line = json.dumps(job).encode() + b"\n"
        self._check_cost(key, field)
        async with self._turns.turn(caller):
            # The result may have arrived meanwhile.
            self._check_cost(key, field)
            # A worker that was killed from outside is replaced; if it dies twice, the job is the
            # cause: it ran out of memory.
            for last in (False, True):
                try:
                    return await self._done(line)
                except (TimeoutError, ProcessGoneError) as error:
                    if self._closed:
                        raise DrainingError("The server has shut down.") from error
                    if last or isinstance(error, TimeoutError):
                        logger.warning("a check of a schema was aborted: it takes too long")
                        _keep(self._expensive, key, self._clock() + REFUSED_SECONDS)
                        raise self._too_expensive(field) from error
        raise AssertionError("unreachable")

    async def _done(self, line: bytes) -> str:
        done = False
        try:
            worker = await self._started()
            async with asyncio.timeout(self.seconds):
                await worker.write(line)
                outcome = json.loads(await self._line())
            done = True
            return str(outcome["fault"])
        finally:
            if not done:
                # It would continue with the job, even if the caller has left.
                await self._end()

    def _too_expensive(self, field: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"The schema is too expensive to check: it takes more than {self.seconds:g} seconds. "
            "Make it simpler: fewer alternatives, references and conditions, no uniqueItems.",
            field=field,
            reason="SCHEMA_TOO_EXPENSIVE",
        )

    async def _started(self) -> LineProcess:
        """Return the worker, ready for a job."""
        if self._worker is not None and self._worker.alive:
            return self._worker
        await self._end()
        lines = self._lines = asyncio.Queue()
        worker = LineProcess(lines.put_nowait, lambda: lines.put_nowait(None))
        try:
            if not self._closed:
                await worker.launch(_command(self._guard, self.seconds))
                self._worker = worker
            if self._closed:
                raise ProcessGoneError
            async with asyncio.timeout(_START_SECONDS):
                await self._line()
        except (OSError, ProcessGoneError) as error:
            # TimeoutError is an OSError.
            if self._closed:
                raise ProcessGoneError from error
            logger.error("the schema worker could not be started: %s", worker.stderr_tail)
            raise ProcessFailedError(
                "Schemas cannot be checked at the moment.", retry_after=1
            ) from error
        return worker

    async def _line(self) -> bytes:
        line = await self._lines.get()
        if line is None:
            raise ProcessGoneError
        return line

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.aclose()


def _keep(found: dict[bytes, _T], key: bytes, value: _T) -> None:
    """Remember the newest entries, up to the maximum."""
    found.pop(key, None)
    found[key] = value
    while len(found) > _KEPT:
        del found[next(iter(found))]


def _key(kind: str, schema: JsonObject) -> bytes:
    return hashlib.sha256(f"{kind} {json.dumps(schema)}".encode()).digest()


def _command(guard: OrphanGuard | None, seconds: float) -> Command:
    return Command(
        argv=(
            *(sys.executable, "-P", "-s", "-m", "bridge.core.validation.schema_worker"),
            str(int(seconds) + 5),
        ),
        # The server's own import path, and nothing else of its environment.
        env={"PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))},
        cwd=Path("/"),
        guard=guard,
    )
