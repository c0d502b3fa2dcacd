"""What a CLI lacks is found out, and what follows from it: shown with the real one, altered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.core.claude.capabilities import ALL, Capabilities
from bridge.probe import Report, capabilities_of, fallbacks, missing, probe
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.checks.check import NO_REWIND, Behaviour
from bridge.probe.run import CHECK_TIMEOUT, ProbeError
from bridge.probe.stage import Lacking, Stage
from tests.support.claude.lacking import cli_without
from tests.support.claude.lacking_cli import LACKS
from tests.support.harness import LONG

REQUIRED = [behaviour for behaviour in BEHAVIOURS if behaviour.required]
REWIND = [behaviour for behaviour in BEHAVIOURS if behaviour.fallback == NO_REWIND]
REPLACED = [behaviour for behaviour in BEHAVIOURS if not behaviour.required]
BY_ID = {behaviour.id: behaviour for behaviour in BEHAVIOURS}

SHORT = 2.0
"""Seconds for checks that would wait for ever for what is lacking."""
WAITS = frozenset({"partial-messages", "interrupt", "interrupt-queued", "parked-calls"})


# Of those that wait, one is enough.
SOME = [b for b in BEHAVIOURS[::4] if b.id not in WAITS - {"interrupt"}]


def test_the_list_is_complete_and_each_of_it_can_be_lacking() -> None:
    assert len(BY_ID) == len(BEHAVIOURS)
    assert all(behaviour.id.startswith("rewind-") for behaviour in REWIND)
    assert [behaviour.id for behaviour in REPLACED if behaviour not in REWIND] == ["plan"]
    assert BY_ID.keys() <= LACKS.keys()


@pytest.mark.parametrize(
    "behaviour",
    [b if b in SOME else pytest.param(b, marks=LONG) for b in BEHAVIOURS],
    ids=lambda behaviour: behaviour.id,
)
async def test_what_is_lacking_is_found_out(tmp_path: Path, behaviour: Behaviour) -> None:
    limit = SHORT if behaviour.id in WAITS else CHECK_TIMEOUT
    report = await probe(cli_without(tmp_path, behaviour.id), (behaviour,), timeout=limit)
    assert report.found == {behaviour.id: False}
    assert report.details[behaviour.id]
    if behaviour in REQUIRED:
        assert missing(report) == (behaviour.sentence,)
    else:
        assert missing(report) == ()


async def test_descriptions_that_are_cut_are_found_out(tmp_path: Path) -> None:
    report = await probe(cli_without(tmp_path, "long-descriptions"), (BY_ID["whole-tools"],))
    assert report.found == {"whole-tools": False}


async def test_a_stand_in_that_lacks_nothing_has_it_all(tmp_path: Path) -> None:
    some = [BY_ID[id] for id in ("replay", "usage", "resumed-calls", "rewind-after-tools")]
    report = await probe(cli_without(tmp_path), some)
    assert all(report.found.values()), report.details


@LONG
async def test_without_a_rewind_each_check_gets_a_process_of_its_own(tmp_path: Path) -> None:
    some = [BY_ID[id] for id in ("user-agent", "replay", "interrupt", "client-tools")]
    report = await probe(cli_without(tmp_path, "rewind"), (*REWIND, *some))
    assert [b for b in BEHAVIOURS if report.found.get(b.id)] == some
    assert missing(report) == ()
    assert not capabilities_of(report).rewind


async def test_a_cli_that_does_not_run_is_distinguished_from_one_that_lacks_something(
    tmp_path: Path,
) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ProbeError):
        await probe(program)
    program.chmod(0o644)
    with pytest.raises(ProbeError):
        await probe(program)


async def test_one_that_never_answers_is_not_tried_again_for_every_behaviour(
    tmp_path: Path,
) -> None:
    report = await probe(cli_without(tmp_path, "boots"))
    assert not any(report.found.values())
    assert missing(report) == (BY_ID["boots"].sentence,)


# One check


async def tried(*checks: Behaviour, cli: Path, timeout: float = 60.0) -> Report:
    return await probe(cli, checks, timeout=timeout)


async def test_an_aborted_check_is_repeated_with_a_new_process(
    tmp_path: Path,
) -> None:
    pids: list[int] = []

    async def unlucky(stage: Stage) -> None:
        pids.append((await stage.warm()).pid)
        if len(pids) == 1:
            raise RuntimeError("the machine was busy")

    report = await tried(Behaviour("x", "X.", unlucky), cli=cli_without(tmp_path))
    assert report.found == {"x": True}
    assert len(set(pids)) == 2


async def test_a_check_that_never_ends_is_stopped_and_the_others_continue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def endless(stage: Stage) -> None:
        await asyncio.Event().wait()

    async def after(stage: Stage) -> None:
        pass

    checks = (Behaviour("x", "X.", endless), Behaviour("y", "Y.", after))
    report = await tried(*checks, cli=cli_without(tmp_path), timeout=0.01)
    assert report.found == {"x": False, "y": True}
    assert "lacks x: TimeoutError" in caplog.text


async def test_what_was_seen_to_be_otherwise_is_believed_at_once(tmp_path: Path) -> None:
    times: list[int] = []

    async def otherwise(stage: Stage) -> None:
        await stage.warm()
        times.append(1)
        raise Lacking("it is otherwise")

    report = await tried(Behaviour("x", "X.", otherwise), cli=cli_without(tmp_path))
    assert report.details == {"x": "it is otherwise"}
    assert times == [1]


# What follows


def report_without(*ids: str) -> Report:
    found = {behaviour.id: behaviour.id not in ids for behaviour in BEHAVIOURS}
    return Report("2.0.0", found)


def test_with_everything_there_nothing_is_missing() -> None:
    report = report_without()
    assert missing(report) == fallbacks(report) == ()
    assert capabilities_of(report) == ALL


@pytest.mark.parametrize("behaviour", REQUIRED, ids=lambda behaviour: behaviour.id)
def test_without_what_is_required_it_is_missing(behaviour: Behaviour) -> None:
    report = report_without(behaviour.id)
    assert missing(report) == (behaviour.sentence,)
    assert fallbacks(report) == ()


@pytest.mark.parametrize("behaviour", REWIND, ids=lambda behaviour: behaviour.id)
def test_without_any_kind_of_rewind_there_is_none(behaviour: Behaviour) -> None:
    report = report_without(behaviour.id)
    assert missing(report) == ()
    assert capabilities_of(report) == Capabilities(rewind=False, lacking=(behaviour.id,))
    assert "closed" in fallbacks(report)[0]


def test_without_the_plan_at_the_start_all_else_is_as_it_was() -> None:
    report = report_without("plan")
    assert missing(report) == ()
    assert capabilities_of(report) == Capabilities(lacking=("plan",))
    assert "after the first answer" in fallbacks(report)[0]
