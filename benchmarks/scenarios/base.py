"""The interface of a scenario, and what several of them use."""

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
"""Requests to each subject before anything counts: the first turns of a process are slower."""

_numbers = itertools.count(1)


class Scenario(Protocol):
    """Something to measure."""

    name: str
    about: str

    async def run(self, stage: Stage) -> list[Line]:
        """Measure, and say what came of it."""


def question(**directive: Any) -> str:
    """A question unlike any before, that tells the simulator what to answer."""
    return f"Question {next(_numbers)}. [[sim {json.dumps(directive)}]]"


def unseen_system() -> str:
    """A system prompt unlike any before."""
    return f"{SYSTEM} You are number {next(_numbers)}."


def rounds(count: int, subjects: Sequence[T]) -> Iterator[T]:
    """Each of the subjects once a round, each round beginning with another one."""
    for n in range(count):
        first = n % len(subjects)
        yield from (*subjects[first:], *subjects[:first])


async def warm_up(subjects: Sequence[Subject], times: int = WARM_UP) -> None:
    """Let every subject answer, off the record, and come to rest."""
    for subject in rounds(times, subjects):
        await subject.ask(Request(SYSTEM, (question(tokens=20),)))
        await subject.afresh()
