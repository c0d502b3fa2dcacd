"""What the bridge does without a behaviour, end to end: served otherwise, or not started."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from bridge.core.claude.capabilities import Capabilities
from bridge.core.pool.policy import PoolLimits
from bridge.probe import Report, report_for
from bridge.probe.behaviours import BEHAVIOURS
from bridge.server.settings import Settings
from bridge.server.start_error import StartError
from bridge.server.supervisor import FrontEnds, serving
from bridge.simulator import Exchange
from tests.support.claude.lacking import cli_without
from tests.support.harness import (
    LONG,
    PATIENCE,
    assistant,
    running_engine,
    settings_for_tests,
    sim,
    user,
)
from tests.support.waiting import soon

SENTENCES = {behaviour.id: behaviour.sentence for behaviour in BEHAVIOURS}


def with_cli(state: Path, cli: Path) -> Settings:
    return settings_for_tests(state).model_copy(update={"bridge_claude_path": str(cli)})


def process_of(exchange: Exchange) -> str:
    """The CLI process that made an upstream call: each sends its own id."""
    return exchange.headers["x-claude-code-session-id"]


# Without rewind


async def test_without_rewind_each_conversation_has_a_process_and_nothing_is_carried_over(
    tmp_path: Path,
) -> None:
    cli = cli_without(tmp_path, "rewind")
    capabilities = Capabilities(rewind=False)
    async with running_engine(
        tmp_path, PoolLimits(1, 3, 1, park_seconds=0), cli=cli, capabilities=capabilities
    ) as engine:
        seen: list[Exchange] = []
        for number in range(3):
            words = f"conversation-{number}"
            answer = await engine.ask(
                user("one " + words), assistant("two " + words), user(words + sim(text="three"))
            )
            assert answer.text == "three"
            await engine.settled()
            (exchange,) = engine.upstream(words)
            assert len([m for m in exchange.messages if m["role"] != "system"]) == 3
            others = (f"conversation-{other}" for other in range(number))
            assert not [other for other in others if exchange.contains(other)]
            seen.append(exchange)
        assert len({process_of(exchange) for exchange in seen}) == 3


async def test_without_rewind_a_conversation_is_still_continued_where_it_stands(
    tmp_path: Path,
) -> None:
    cli = cli_without(tmp_path, "rewind")
    async with running_engine(
        tmp_path, PoolLimits(1, 3, 1), cli=cli, capabilities=Capabilities(rewind=False)
    ) as engine:
        first = user("question-a" + sim(text="one"))
        answer = await engine.ask(first)
        await engine.settled()
        again = await engine.ask(first, answer.message, user("question-b" + sim(text="two")))
        assert (again.text, again.session) == ("two", "continued")
        assert len({process_of(exchange) for exchange in engine.upstream("question-a")}) == 1


# The start


@LONG
async def test_a_start_without_what_is_required_names_it_and_nothing_is_kept(
    tmp_path: Path,
) -> None:
    lacking = ("own-settings", "user-agent", "replay", "usage", "large-results", "late-model")
    cli = cli_without(tmp_path, *lacking)
    state = tmp_path / "state"
    with pytest.raises(StartError) as refusal:
        async with serving(with_cli(state, cli), FrontEnds(grpc=False, demo=True)):
            pass
    named = {id for id, sentence in SENTENCES.items() if sentence in str(refusal.value)}
    assert named == set(lacking)
    assert "Unset BRIDGE_CLAUDE_PATH" in str(refusal.value)
    assert not (state / "probe.json").exists()


async def test_a_start_with_a_cli_that_does_not_run_reports_that(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(StartError, match="could not be started"):
        async with serving(with_cli(tmp_path / "state", program), FrontEnds(grpc=False, demo=True)):
            pass


async def test_a_start_uses_what_is_known_and_health_and_log_report_what_is_lacking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cli = cli_without(tmp_path, "rewind")
    settings = with_cli(tmp_path / "state", cli)
    lacking = ("rewind-after-answers", "rewind-after-interrupt", "rewind-after-tools")

    async def known(cli: Path) -> Report:
        found = {behaviour.id: behaviour.id not in lacking for behaviour in BEHAVIOURS}
        return Report("2.0.0", found)

    await report_for(cli, settings.bridge_state_dir, probing=known)
    async with serving(settings, FrontEnds(grpc=False, demo=True)) as bridge:
        url = f"http://127.0.0.1:{bridge.http_port}"
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            health = (await soon(client.get("/health"))).json()
            assert health["lacking"] == list(lacking)
            assert health["status"] == "ok"
            body = {"model": "default", "messages": [{"role": "user", "content": sim(text="hi")}]}
            answer = (await soon(client.post("/v1/chat/completions", json=body))).json()
            assert answer["choices"][0]["message"]["content"] == "hi"
    assert "lacks rewind-after-tools: each process is closed" in caplog.text
