"""What goes wrong at the edges of a request: before the first process is up, after its answer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bridge.core.claude.processes.process import ProcessGoneError
from bridge.core.contract.errors import DrainingError, ProcessFailedError
from bridge.core.contract.events import Finished
from bridge.core.contract.request import CompletionRequest
from bridge.core.engine import attempt
from bridge.core.engine.completion import Completion
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.intake.billing import RequestBill
from bridge.core.telemetry.request_record import RequestRecord
from bridge.core.telemetry.session_log import SessionLog
from bridge.core.validation.schemas import UnfitAnswerError
from tests.support.claude.fake_process import fake_launcher
from tests.support.claude.faking import ONE, WHOLE, faked_engine
from tests.support.claude.faking import event as event_line
from tests.support.harness import user
from tests.support.waiting import soon

HOUR = 3600.0


async def test_a_process_that_dies_after_its_answer_does_not_spoil_it(tmp_path: Path) -> None:
    """The request that finds out the usage limits waits for what comes after the answer."""
    turn = [*WHOLE[:-1], {"die": True}]
    async with faked_engine(
        tmp_path, ONE, how={"turn": turn, "well": turn}, stop_before_overage=True
    ) as engine:
        paid = {"status": "rejected", "isUsingOverage": True, "resetsAt": time.time() + HOUR}
        engine.engine.usage_limits.note({"rate_limit_info": paid}, 1.0)
        engine.engine.usage_limits._now = lambda: time.time() + 2 * HOUR
        answer = await soon(engine.ask())
        assert (answer.text, answer.reason) == ("Half and half.", "stop")
        assert engine.engine.pool_state().totals.answered == 1


@pytest.mark.parametrize("fault", ["stop", "die"])
async def test_an_answer_that_was_cut_stands_whatever_becomes_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Its turn is ended before the answer is, to count what Claude Code asks by itself."""
    monkeypatch.setattr(attempt, "_STOP_SECONDS", 0.5)
    cut = event_line(type="message_delta", delta={"stop_reason": "max_tokens"}, usage={})
    turn = [*WHOLE[:-3], cut, {"type": "system", "subtype": "status", "status": "requesting"}]
    async with faked_engine(tmp_path, how={"turn": [*turn, {fault: True}]}) as engine:
        answer = await soon(engine.ask())
        assert (answer.text, answer.reason) == ("Half and half.", "length")


async def test_a_process_that_dies_is_replaced_though_the_request_was_tried_again_before() -> None:
    engine = Engine(fake_launcher(), EngineOptions(ONE), SessionLog(None))
    request = CompletionRequest((user("Hello?"),))
    record, resources = RequestRecord(request, 0.0), engine.resources
    completion = Completion(request, record, resources, RequestBill(record, lambda bill: None))
    tried = await completion._new_attempt()
    # An unfit answer is requested again: no fault of the process.
    completion._failed(tried, UnfitAnswerError("is not valid JSON"))
    completion._failed(tried, ProcessGoneError())
    with pytest.raises(ProcessFailedError):
        completion._failed(tried, ProcessGoneError())


async def test_requests_that_wait_for_the_first_process_end_with_the_server() -> None:
    launcher = fake_launcher(silent=["get_settings"])
    engine = Engine(launcher, EngineOptions(ONE), SessionLog(None))
    starting = asyncio.ensure_future(engine.start())

    async def ask() -> None:
        async for event in engine.complete(CompletionRequest((user("Hello?"),))):
            assert not isinstance(event, Finished)

    waiting = [asyncio.ensure_future(each) for each in (ask(), engine.models(), engine.model("x"))]
    await asyncio.wait(waiting, timeout=0.01)
    starting.cancel()
    await asyncio.wait((starting,))
    await engine.aclose()
    for one in waiting:
        with pytest.raises(DrainingError):
            await soon(one)
