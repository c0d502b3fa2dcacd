"""A finished conversation is continued, and only by exactly its next request."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from bridge.core.contract.request import (
    Effort,
    Message,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.engine.parking_policy import UNFOLLOWED
from bridge.core.pool.policy import PoolLimits
from tests.support.harness import Answer, RunningEngine, assistant, running_engine, sim, user

WEATHER = Tool(
    "get_weather", "Tells it.", {"type": "object", "properties": {"city": {"type": "string"}}}
)
TIME = Tool("get_time", "Tells it.", {"type": "object", "properties": {}})


def marker() -> str:
    return uuid.uuid4().hex


def said(engine: RunningEngine, containing: str) -> list[tuple[str, Any]]:
    """Return the conversation as it last reached the model, without the CLI's own messages."""
    exchange = engine.upstream(containing)[-1]
    return [
        (message["role"], [_bare(block) for block in message["content"]])
        for message in exchange.messages
        if message["role"] != "system"
    ]


def _bare(block: dict[str, Any]) -> dict[str, Any]:
    bare = {key: block[key] for key in sorted(block) if key != "cache_control"}
    if isinstance(bare.get("content"), str):
        # The API accepts a string for one text block; the CLI writes it so for a failed tool.
        bare["content"] = [{"type": "text", "text": bare["content"]}]
    return bare


def result(answer: Answer, *texts: str, is_error: bool = False) -> Message:
    return user(
        *(
            ToolResultPart(call.id, (TextPart(text),), is_error)
            for call, text in zip(answer.calls, texts, strict=True)
        )
    )


async def test_the_next_message_continues_in_the_same_conversation(engine: RunningEngine) -> None:
    mark = marker()
    first = await engine.ask(user(f"{mark} one " + sim(text="two")), system="S")
    second = await engine.ask(
        user(f"{mark} one " + sim(text="two")), first.message, user("three"), system="S"
    )
    assert second.session == "continued"
    assert said(engine, mark) == [
        ("user", [{"type": "text", "text": f"{mark} one " + sim(text="two")}]),
        ("assistant", [{"type": "text", "text": "two"}]),
        ("user", [{"type": "text", "text": "three"}]),
    ]


async def test_an_answer_whose_trailing_white_space_was_cut_is_continued(
    engine: RunningEngine,
) -> None:
    # As Open WebUI returns it.
    first = user(f"{marker()} {sim(text='Hello. ')}")
    answer = await engine.ask(first)
    assert answer.text == "Hello. "
    again = await engine.ask(first, assistant("Hello."), user("And?"))
    assert again.session == "continued"


async def test_a_continued_and_a_replayed_conversation_look_alike_to_the_model(
    engine: RunningEngine,
) -> None:
    seen = []
    for caller_of_second in ("a", "b"):
        mark = marker()
        opening = user(f"{mark} one " + sim(text="two"))
        first = await engine.ask(opening, system="S", caller="a")
        second = await engine.ask(
            opening, first.message, user("three"), system="S", caller=caller_of_second
        )
        assert (second.session == "continued") is (caller_of_second == "a")
        seen.append(str(said(engine, mark)).replace(mark, ""))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"caller": "b"}, "another key"),
        ({"system": "Other"}, "another system prompt"),
        ({"model": "haiku"}, "another model"),
        ({"effort": Effort.HIGH}, "another effort"),
        ({"tools": (WEATHER,)}, "other tools"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_differs_in_more_than_the_new_message_is_replayed(
    engine: RunningEngine, change: dict[str, Any], why: str
) -> None:
    base: dict[str, Any] = {"system": "S", "caller": "a"}
    opening = user(f"{marker()} one " + sim(text="two"))
    first = await engine.ask(opening, **base)
    second = await engine.ask(opening, first.message, user("three"), **{**base, **change})
    assert second.session != "continued", why


async def test_sampling_and_limits_may_differ(engine: RunningEngine) -> None:
    mark = marker()
    opening = user(f"{mark} one " + sim(text="two"))
    first = await engine.ask(opening)
    second = await engine.ask(
        opening,
        first.message,
        user("three"),
        max_output_tokens=77,
        sampling=Sampling(stop=("zz",)),
    )
    assert second.session == "continued"
    body = engine.upstream(mark)[-1].body
    assert (body["max_tokens"], body["stop_sequences"]) == (77, ["zz"])


async def test_an_edited_message_is_never_continued(engine: RunningEngine) -> None:
    mark = marker()
    first = await engine.ask(user(f"{mark} one " + sim(text="two")))
    edited = await engine.ask(user(f"{mark} ONE " + sim(text="two")), first.message, user("three"))
    assert edited.session != "continued"
    other_answer = await engine.ask(
        user(f"{mark} one " + sim(text="two")), assistant("2"), user("three")
    )
    assert other_answer.session != "continued"


async def test_a_branch_from_an_earlier_point_leaves_the_conversation_alone(
    tmp_path: Path,
) -> None:
    # A separate engine, whose room for parked conversations is not shared.
    async with running_engine(tmp_path) as engine:
        mark = marker()
        opening = user(f"{mark} one " + sim(text="two"))
        first = await engine.ask(opening)
        second = await engine.ask(opening, first.message, user("three " + sim(text="four")))
        # Without a spare process the conversation would have to make way.
        await engine.settled()
        branch = await engine.ask(opening, first.message, user("another three"))
        assert branch.session != "continued"
        assert [block for _, blocks in said(engine, mark) for block in blocks][-1] == {
            "type": "text",
            "text": "another three",
        }
        third = await engine.ask(
            opening, first.message, user("three " + sim(text="four")), second.message, user("five")
        )
        assert third.session == "continued"


async def test_a_conversation_is_claimed_once(engine: RunningEngine) -> None:
    opening = user(f"{marker()} one " + sim(text="two"))
    first = await engine.ask(opening)
    again = (opening, first.message, user("three"))
    answers = [await engine.ask(*again), await engine.ask(*again)]
    assert [answer.session == "continued" for answer in answers] == [True, False]


async def test_no_conversation_is_held_open_for_a_caller_who_never_continues_one(
    tmp_path: Path,
) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 8, 1)) as engine:
        for number in range(UNFOLLOWED + 1):
            await engine.ask(user(f"{number} " + sim(text="x")))
            await engine.settled()
        opening = user("one " + sim(text="two"))
        first = await engine.ask(opening)
        await engine.settled()
        assert engine.engine.pool.counts()["parked"] == UNFOLLOWED
        # A caller that continues anyway is answered from a replay, and its conversations are parked
        # again.
        so_far = (opening, first.message, user("three " + sim(text="four")))
        second = await engine.ask(*so_far)
        third = await engine.ask(*so_far, second.message, user("five"))
        new = await engine.ask(opening)
        fresh = await engine.ask(opening, new.message, user("six"))
        sessions = [answer.session for answer in (second, third, fresh)]
        assert sessions == ["warm", "continued", "continued"]


async def test_an_answer_cut_by_its_limit_is_not_continued(engine: RunningEngine) -> None:
    mark = marker()
    opening = user(f"{mark} one " + sim(tokens=50))
    first = await engine.ask(opening, max_output_tokens=5)
    assert first.reason == "length"
    second = await engine.ask(opening, first.message, user("three " + sim(text="x")))
    assert second.session != "continued"
    assert "limit hit" not in str(said(engine, mark))


async def test_tool_results_resume_the_turn_that_waits(engine: RunningEngine) -> None:
    mark = marker()
    calls = [
        {"name": "get_weather", "input": {"city": "Paris"}},
        {"name": "get_weather", "input": {"city": "Rome"}},
    ]
    opening = user(f"{mark} " + sim(text="Let me see.", tools=calls))
    first = await engine.ask(opening, tools=(WEATHER, TIME))
    assert first.reason == "tool_calls"
    assert [(call.name, call.arguments.replace(" ", "")) for call in first.calls] == [
        ("get_weather", '{"city":"Paris"}'),
        ("get_weather", '{"city":"Rome"}'),
    ]
    second = await engine.ask(
        opening, first.message, result(first, "sunny", "rain"), tools=(WEATHER, TIME)
    )
    assert second.session == "continued"
    conversation = said(engine, mark)
    assert [role for role, _ in conversation] == ["user", "assistant", "user"]
    assert conversation[2][1] == [
        {
            "type": "tool_result",
            "tool_use_id": call.id,
            "content": [{"type": "text", "text": text}],
        }
        for call, text in zip(first.calls, ("sunny", "rain"), strict=True)
    ]
    third = await engine.ask(
        opening,
        first.message,
        result(first, "sunny", "rain"),
        second.message,
        user("Thanks."),
        tools=(WEATHER, TIME),
    )
    assert third.session == "continued"


async def test_results_that_come_when_the_turn_is_gone_are_replayed_alike(
    engine: RunningEngine,
) -> None:
    seen = []
    for caller in ("a", "b"):
        mark = marker()
        tools = [{"name": "get_weather", "input": {"city": "Paris"}, "id": "toolu_fixed"}]
        opening = user(f"{mark} " + sim(text="Let me see.", tools=tools))
        first = await engine.ask(opening, tools=(WEATHER,), caller="a")
        second = await engine.ask(
            opening,
            first.message,
            result(first, "no city", is_error=True),
            tools=(WEATHER,),
            caller=caller,
        )
        assert (second.session == "continued") is (caller == "a")
        seen.append(str(said(engine, mark)).replace(mark, ""))
    assert seen[0] == seen[1]


async def test_results_with_a_word_beside_them_are_replayed(engine: RunningEngine) -> None:
    mark = marker()
    opening = user(f"{mark} " + sim(tools=[{"name": "get_time", "input": {}}]))
    first = await engine.ask(opening, tools=(TIME,))
    second = await engine.ask(
        opening,
        first.message,
        user(ToolResultPart(first.calls[0].id, (TextPart("noon"),)), "And?"),
        tools=(TIME,),
    )
    assert second.session != "continued"
    assert [block["type"] for block in said(engine, mark)[-1][1]] == ["tool_result", "text"]


async def test_a_result_too_long_for_the_way_of_a_call_is_replayed_whole(
    engine: RunningEngine,
) -> None:
    mark = marker()
    opening = user(f"{mark} " + sim(tools=[{"name": "get_time", "input": {}}]))
    first = await engine.ask(opening, tools=(TIME,))
    text = "x" * 600_000
    second = await engine.ask(opening, first.message, result(first, text), tools=(TIME,))
    assert second.session != "continued"
    assert said(engine, mark)[-1][1][0]["content"] == [{"type": "text", "text": text}]


async def test_a_result_of_400000_characters_reaches_a_waiting_turn_whole(
    engine: RunningEngine,
) -> None:
    mark = marker()
    opening = user(f"{mark} " + sim(tools=[{"name": "get_time", "input": {}}]))
    first = await engine.ask(opening, tools=(TIME,))
    text = "y" * 400_000
    second = await engine.ask(opening, first.message, result(first, text), tools=(TIME,))
    assert second.session == "continued"
    assert said(engine, mark)[-1][1][0]["content"] == [{"type": "text", "text": text}]


async def test_histories_made_elsewhere_are_replayed_as_they_were(engine: RunningEngine) -> None:
    mark = marker()
    await engine.ask(
        assistant(f"{mark} Welcome"),
        user("a"),
        user("b"),
        assistant(""),
        user("c"),
        assistant(
            ToolCallPart("call_abc:1", "get_weather", '{"city":"x"}'),
            ToolCallPart("call_abc:2", "get.time", "{}"),
        ),
        user(
            ToolResultPart("call_abc:1", (TextPart("r1"),)),
            ToolResultPart("call_abc:2", ()),
        ),
        tools=(WEATHER,),
    )
    conversation = said(engine, mark)
    assert [role for role, _ in conversation] == ["user", "assistant"] * 2 + ["user"]
    assert [block["text"] for block in conversation[2][1]] == ["a", "b", "c"]
    calls, results = conversation[3][1], conversation[4][1]
    assert [call["id"] for call in calls] == [answer["tool_use_id"] for answer in results]
    assert calls[0]["name"] == "get_weather"
    assert calls[0]["input"] == {"city": "x"}


async def test_a_parked_conversation_is_wiped_after_its_time(tmp_path: Path) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 3, 0, park_seconds=0.05)) as engine:
        opening = user("one " + sim(text="two"))
        first = await engine.ask(opening)
        await engine.settled()
        await engine.engine.pool.wait_for(lambda counts: counts["parked"] == 0)
        second = await engine.ask(opening, first.message, user("three"))
        assert second.session == "warm"


async def test_without_parking_every_request_is_replayed(tmp_path: Path) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 3, 0, park_seconds=0)) as engine:
        opening = user("one " + sim(text="two"))
        first = await engine.ask(opening)
        second = await engine.ask(opening, first.message, user("three"))
        assert second.session == "warm"


async def test_parked_conversations_make_way_and_are_replayed_when_they_come_back(
    tmp_path: Path,
) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 2, 0)) as engine:
        marks = [marker() for _ in range(3)]
        openings = [user(f"{mark} " + sim(text=f"answer {mark}")) for mark in marks]
        # All with one system prompt: the first of them is evicted for the third.
        firsts = [await engine.ask(opening, system="S") for opening in openings]
        for index in (2, 0):
            second = await engine.ask(
                openings[index], firsts[index].message, user("more"), system="S"
            )
            assert (second.session == "continued") is (index == 2)
            exchange = engine.upstream(marks[index])[-1]
            text = str(exchange.messages)
            assert [mark for mark in marks if mark in text] == [marks[index]]


async def test_the_share_read_from_the_cache(engine: RunningEngine) -> None:
    mark = marker()
    words = "word " * 1500
    opening = user(f"{mark} {words}" + sim(text="two"))
    next_one = user(f"three {words}" + sim(text="four"))
    first = await engine.ask(opening)
    second = await engine.ask(opening, first.message, next_one)
    branch = await engine.ask(opening, first.message, user(f"other {words}" + sim(text="x")))
    replay = await engine.ask(
        opening, first.message, next_one, second.message, user("five"), caller="b"
    )
    onwards = await engine.ask(
        opening,
        first.message,
        next_one,
        second.message,
        user("five"),
        replay.message,
        user("six"),
        caller="c",
    )
    shares = {
        name: answer.usage.cache_read_tokens / answer.usage.prompt_tokens
        for name, answer in {
            "continued": second,
            "branched": branch,
            "replayed": replay,
            "replayed onwards": onwards,
        }.items()
    }
    print(shares)
    assert second.session == "continued"
    assert shares["continued"] > 0.5
    assert shares["branched"] > 0.4
    assert shares["replayed"] > 0.3
    assert shares["replayed onwards"] > 0.9
    for exchange in engine.upstream(mark):
        assert str(exchange.body).count("'cache_control'") <= 4
