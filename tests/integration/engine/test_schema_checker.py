"""Schemas and answers are checked in a process that can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.contract.errors import DrainingError, InvalidRequestError
from bridge.core.contract.request import (
    CompletionRequest,
    OutputFormat,
    OutputKind,
    Tool,
    ToolChoice,
    ToolMode,
)
from bridge.core.engine.schema_checker import REFUSED_SECONDS, SchemaChecker
from bridge.core.validation.schemas import UnfitAnswerError
from tests.support.harness import PATIENCE

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
LARGE = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(100)}}
# Each item is compared with every other: unlike numbers, lists of mixed types cannot be sorted.
UNIQUE = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
ENDLESS = json.dumps({"a": [item for i in range(10_000) for item in ([i], {"a": i})]})


@asynccontextmanager
async def checking(
    seconds: float = PATIENCE, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[SchemaChecker]:
    checker = SchemaChecker(seconds=seconds, clock=clock)
    try:
        yield checker
    finally:
        await checker.aclose()


def request(schema: dict[str, Any] | None = None, *tools: dict[str, Any]) -> CompletionRequest:
    return CompletionRequest(
        (),
        tools=tuple(Tool(f"tool{i}", "", parameters) for i, parameters in enumerate(tools)),
        output_format=OutputFormat(OutputKind.JSON_SCHEMA, "name", schema)
        if schema
        else OutputFormat(),
    )


def runs(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def has_worker(checker: SchemaChecker) -> bool:
    return checker.worker_pid is not None


async def pid_of(checker: SchemaChecker) -> int:
    """The worker, once there is one."""
    async with asyncio.timeout(PATIENCE):
        while (pid := checker.worker_pid) is None:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    return pid


async def test_answers_are_checked() -> None:
    async with checking() as checker:
        await checker.check_answer(SCHEMA, '{"a":1}')
        pid = await pid_of(checker)
        with pytest.raises(UnfitAnswerError, match="does not match the schema at a"):
            await checker.check_answer(SCHEMA, '{"a":"ü"}')
        await checker.check_answer(SCHEMA, '{"a":2}')
        assert checker.worker_pid == pid
    assert not runs(pid)


async def test_a_small_schema_needs_no_process_and_a_large_one_does_once() -> None:
    async with checking() as checker:
        await checker.admit(request(SCHEMA, SCHEMA))
        assert not has_worker(checker)
        await checker.admit(request(LARGE, SCHEMA))
        pid = await pid_of(checker)
        os.kill(pid, 9)
        # A known result is not computed again.
        await checker.admit(request(LARGE, SCHEMA))
        # A worker that was killed is replaced.
        await checker.admit(request(None, LARGE))
        assert checker.worker_pid not in (None, pid)


@pytest.mark.parametrize("size", ["small", "large"])
async def test_what_is_no_schema_is_refused_and_named(size: str) -> None:
    base = SCHEMA if size == "small" else LARGE
    broken = {**base, "required": "a"}
    async with checking() as checker:
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="at required") as caught:
                await checker.admit(request(broken))
            assert caught.value.field == "output_format"
            with pytest.raises(InvalidRequestError, match=r"'tool1'.*at required") as caught:
                await checker.admit(request(None, base, broken))
            assert caught.value.field == "tools"


async def test_tools_that_are_not_offered_are_not_checked() -> None:
    async with checking() as checker:
        asked = CompletionRequest(
            (),
            tools=(Tool("look", "", {"required": "a"}),),
            tool_choice=ToolChoice(ToolMode.NONE),
        )
        await checker.admit(asked)


async def test_a_check_that_takes_too_long_is_an_error_and_the_next_is_made() -> None:
    async with checking(seconds=1) as checker:
        checks = [checker.check_answer(UNIQUE, ENDLESS), checker.check_answer(SCHEMA, '{"a":1}')]
        late, fine = await asyncio.gather(*checks, return_exceptions=True)
        assert isinstance(late, InvalidRequestError)
        assert (late.field, late.reason) == ("output_format", "SCHEMA_TOO_EXPENSIVE")
        assert "too expensive to check" in late.message
        assert fine is None


async def test_a_schema_that_was_too_expensive_is_refused_at_once_for_a_while() -> None:
    now = 1000.0
    async with checking(seconds=1, clock=lambda: now) as checker:
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="too expensive"):
                await checker.check_answer(UNIQUE, ENDLESS)
            # No process is started for a known result.
            assert not has_worker(checker)
            checker.seconds = PATIENCE
        # Not even where another answer would be checked soon, and before there is one.
        with pytest.raises(InvalidRequestError, match="too expensive"):
            await checker.check_answer(UNIQUE, "{}")
        with pytest.raises(InvalidRequestError, match="too expensive") as caught:
            await checker.admit(request(UNIQUE))
        assert (caught.value.field, caught.value.reason) == (
            "output_format",
            "SCHEMA_TOO_EXPENSIVE",
        )
        await checker.admit(request(SCHEMA))
        now += REFUSED_SECONDS
        await checker.admit(request(UNIQUE))
        await checker.check_answer(UNIQUE, "{}")


async def test_what_waits_for_the_same_schema_is_refused_with_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with checking(seconds=1) as checker:
        checks = [checker.check_answer(UNIQUE, ENDLESS) for _ in range(3)]
        for outcome in await asyncio.gather(*checks, return_exceptions=True):
            assert isinstance(outcome, InvalidRequestError)
    assert caplog.text.count("aborted") == 1


async def test_the_expensive_checks_of_one_caller_delay_another_by_one() -> None:
    ended: list[str] = []

    async def check(name: str, schema: dict[str, Any], answer: str, caller: str) -> None:
        try:
            await checker.check_answer(schema, answer, caller)
        except InvalidRequestError:
            ended.append(f"{name} refused")
        else:
            ended.append(f"{name} fine")

    async with checking(seconds=1) as checker:
        hostile = (
            check(f"hostile{i}", {**UNIQUE, "title": str(i)}, ENDLESS, "one") for i in range(3)
        )
        await asyncio.gather(*hostile, check("honest", SCHEMA, '{"a":1}', "another"))
    assert ended[:2] == ["hostile0 refused", "honest fine"]
    assert ended[2:] == ["hostile1 refused", "hostile2 refused"]


async def test_the_worker_ends_when_its_parent_has_ended() -> None:
    async with checking() as checker:
        asked = asyncio.create_task(checker.check_answer(UNIQUE, ENDLESS))
        pid = await pid_of(checker)
        asked.cancel()
        await asyncio.wait((asked,))
        assert asked.cancelled()
        assert not runs(pid)
        await checker.check_answer(SCHEMA, '{"a":1}')


async def test_it_can_be_closed_in_the_middle_of_a_check() -> None:
    async with checking() as checker:
        asked = asyncio.create_task(checker.check_answer(UNIQUE, ENDLESS))
        pid = await pid_of(checker)
        await checker.aclose()
        assert not runs(pid)
        with pytest.raises(DrainingError):
            await asked
        with pytest.raises(DrainingError):
            await checker.check_answer(SCHEMA, '{"a":1}')
    assert checker.worker_pid is None


async def test_a_worker_ends_by_itself_if_it_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after the death of the server, with the last of its watchdogs."""
    from bridge.core.engine import schema_checker

    made = schema_checker._command
    monkeypatch.setattr(schema_checker, "_command", lambda guard, _: made(guard, -4))
    async with checking() as checker:
        began = time.monotonic()
        with pytest.raises(InvalidRequestError, match="too expensive"):
            await checker.check_answer(UNIQUE, ENDLESS)
        assert time.monotonic() - began < PATIENCE
        assert checker.worker_pid is None


async def test_nothing_of_the_environment_reaches_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "of the server")
    async with checking() as checker:
        await checker.check_answer(SCHEMA, '{"a":1}')
        environment = Path(f"/proc/{checker.worker_pid}/environ").read_bytes()  # noqa: ASYNC240
    assert b"PYTHONPATH" in environment
    assert b"SECRET" not in environment
