"""Nothing from one request reaches another: no text, and no setting."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from pathlib import Path
from typing import Any

from bridge.core.contract.request import (
    CompletionRequest,
    Effort,
    Sampling,
    Tool,
    ToolChoice,
    ToolMode,
)
from bridge.core.pool.policy import PoolLimits
from tests.support.harness import SCALE, RunningEngine, assistant, running_engine, sim, user

TOOL = Tool("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})

# Models that accept sampling and forced tools, which the newest ones refuse.
OLDER = "claude-sonnet-4-6"

SETTINGS: list[dict[str, Any]] = [
    {},
    {"system": "You are brief."},
    {"model": "haiku"},
    {"effort": Effort.LOW},
    {"effort": Effort.NONE},
    {"max_output_tokens": 321},
    {"sampling": Sampling(stop=("never said",))},
    {"tools": (TOOL,)},
    {"tools": (TOOL,), "tool_choice": ToolChoice(parallel=False)},
    {"tools": (TOOL,), "tool_choice": ToolChoice(ToolMode.NONE)},
]


def settings_in(body: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of an upstream request that a caller's settings decide."""
    kept = ("model", "max_tokens", "thinking", "stop_sequences", "tool_choice", "output_config")
    settings = {key: body.get(key) for key in kept}
    settings["tools"] = [tool["name"] for tool in body.get("tools") or ()]
    settings["system"] = [block["text"] for block in body["system"][1:]]
    return settings


async def test_what_a_request_leaves_unset_goes_back_to_the_default(
    engine: RunningEngine,
) -> None:
    alone: dict[int, dict[str, Any]] = {}
    for index, settings in enumerate(SETTINGS):
        mark = uuid.uuid4().hex
        await engine.ask(user(mark + sim(text="ok")), **settings)
        alone[index] = settings_in(dict(engine.upstream(mark)[-1].body))
    order = [index for index in range(len(SETTINGS)) for _ in range(2)]
    random.Random(7).shuffle(order)
    for index in order:
        mark = uuid.uuid4().hex
        await engine.ask(user(mark + sim(text="ok")), **SETTINGS[index])
        assert settings_in(dict(engine.upstream(mark)[-1].body)) == alone[index]


async def test_no_marker_of_a_conversation_is_in_another(tmp_path: Path) -> None:
    conversations = 60 * SCALE if SCALE == 1 else 100 * SCALE
    rng = random.Random(11)
    async with running_engine(tmp_path, PoolLimits(6, 9, 1), queue_size=conversations) as engine:
        waiting = iter(range(conversations))
        marks: list[str] = []

        async def converse() -> None:
            for number in waiting:
                mark = f"mark-{uuid.uuid4().hex}"
                marks.append(mark)
                settings = SETTINGS[number % len(SETTINGS)]
                opening = user(f"{mark} " + sim(tokens=rng.randint(1, 30), delay_ms=1))
                if number % 5 == 0:
                    await leave(CompletionRequest(messages=(opening,), **settings), rng)
                    continue
                answer = await engine.ask(opening, **settings)
                for turn in range(rng.randint(0, 2)):
                    await engine.ask(
                        opening, answer.message, user(f"{mark} more {turn}"), **settings
                    )

        async def leave(request: CompletionRequest, rng: random.Random) -> None:
            """Disconnect in the middle: before the answer or after some of it."""
            events = engine.engine.complete(request)
            for _ in range(rng.randint(1, 10)):
                if await anext(events, None) is None:
                    break
            await events.aclose()

        await asyncio.gather(*(converse() for _ in range(6)))
        await engine.settled()
        exchanges = engine.simulator.ledger.exchanges()
        assert len(exchanges) >= conversations * 0.8
        for exchange in exchanges:
            text = json.dumps(exchange.body)
            found = {mark for mark in marks if mark in text}
            assert len(found) <= 1, "two conversations met"
            assert "[Request interrupted" not in text
            assert "/clear" not in text
        counts = engine.engine.pool.counts()
        assert counts["running"] == counts["resetting"] == 0


async def test_sampling_reaches_a_model_that_takes_it(engine: RunningEngine) -> None:
    mark = uuid.uuid4().hex
    await engine.ask(user(mark + sim(text="ok")), model=OLDER, sampling=Sampling(temperature=0.5))
    body = engine.upstream(mark)[-1].body
    assert body["temperature"] == 0.5
    assert "thinking" not in body


async def test_sampling_that_a_model_refuses_is_left_out_named_and_remembered(
    engine: RunningEngine,
) -> None:
    calls = []
    for _ in range(2):
        mark = uuid.uuid4().hex
        answer = await engine.ask(
            user(mark + sim(text="ok")), model="opus", sampling=Sampling(temperature=0.5)
        )
        assert (answer.text, answer.ignored) == ("ok", ("sampling.temperature",))
        calls.append([exchange.status for exchange in engine.upstream(mark)])
    assert calls[0][-1] == 200
    assert calls[0][0] == 400
    assert calls[1] == [200]


async def test_prompts_are_text_in_every_turn(engine: RunningEngine, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret of the file")
    mark = uuid.uuid4().hex
    texts = [f"@{secret}", "/clear", "!ls", "#remember"]
    for text in texts:
        await engine.ask(user(f"{mark}"), assistant(text), user(text))
        exchange = engine.upstream(mark)[-1]
        assert "the secret of the file" not in str(exchange.body)
        assert exchange.last_user_text == text


async def test_only_the_tools_of_the_request_are_offered(tmp_path: Path) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 2, 0)) as engine:
        # Other names, an old name again, the same name for something else, and none.
        for names in (["a"], ["b"], ["c", "a"], [], ["a"], ["d"]):
            mark = uuid.uuid4().hex
            tools = tuple(Tool(name, f"For {mark}.") for name in names)
            await engine.ask(user(mark + sim(text="ok")), system="S", tools=tools)
            offered = engine.upstream(mark)[-1].tools
            assert {tool["name"] for tool in offered} == {f"{name}" for name in names}
            assert all(tool["description"] == f"For {mark}." for tool in offered)
            await engine.settled()


UNUSUAL: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": True}},
    {"type": "object", "properties": {"a": {"type": "object", "properties": {"x y": {}}}}},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/b c"}}, "$defs": {"b c": {}}},
    {"type": "object", "properties": {"a": {"type": "string", "pattern": r"\p{L}("}}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": {}}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}},
]


async def test_a_tool_that_is_taken_never_shows_as_what_another_caller_called_so(
    tmp_path: Path,
) -> None:
    """Claude Code keeps using the last definition of a name if it does not accept a new one.
    Definitions that it might not accept are refused before."""
    async with running_engine(tmp_path, PoolLimits(1, 1, 0)) as engine:
        for number, parameters in enumerate(UNUSUAL):
            for mark in (f"other-{number}", f"mine-{number}"):
                mine = mark.startswith("mine")
                tool = Tool("look", mark, parameters if mine else {"title": mark})
                await engine.ask(user(mark + sim(text="ok")), system="S", tools=(tool,))
                body = json.dumps(engine.upstream(mark)[-1].body["tools"])
                assert mark in body
                assert "other" not in body.replace(mark, "")
