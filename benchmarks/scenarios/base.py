"""The interface of scenarios, and shared helpers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from benchmarks.record import Line
from benchmarks.stage import Stage
from benchmarks.subjects import Request, Subject

T = TypeVar("T")

SYSTEM = "You are the model of a benchmark. Answer as the script says."
WARM_UP = 2
"""Requests to each subject before measuring: the first turns of a process are slower."""

_numbers = itertools.count(1)


class Scenario(Protocol):
    """One scenario of the benchmark; `about` is its description in the report."""

    name: str
    about: str

    async def run(self, stage: Stage) -> list[Line]:
        """Measure and return the lines of the report."""


def question(**directive: Any) -> str:
    """A unique question with a directive for the simulator."""
    return f"Question {next(_numbers)}. [[sim {json.dumps(directive)}]]"


def unseen_system() -> str:
    """A unique system prompt."""
    return f"{SYSTEM} You are number {next(_numbers)}."


def rounds(count: int, subjects: Sequence[T]) -> Iterator[T]:
    """Each subject once per round; each round begins with a different one."""
    for n in range(count):
        first = n % len(subjects)
        yield from (*subjects[first:], *subjects[:first])


async def warm_up(subjects: Sequence[Subject], times: int = WARM_UP) -> None:
    """Let every subject answer, unmeasured, and reset it."""
    for subject in rounds(times, subjects):
        await subject.ask(Request(SYSTEM, (question(tokens=20),)))
        await subject.reset()
