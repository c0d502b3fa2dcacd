"""Formats of answers: JSON, required calls, stop texts. The bridge does what the API refuses."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from bridge.core.contract.errors import InvalidRequestError, UnavailableError, UnsupportedError
from bridge.core.contract.request import (
    Effort,
    OutputFormat,
    OutputKind,
    Sampling,
    Tool,
    ToolChoice,
    ToolMode,
)
from tests.support.harness import RunningEngine, assistant, sim, user

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
# The API's subset of JSON Schema cannot express a map with arbitrary keys.
MAP = {"type": "object", "additionalProperties": {"type": "integer"}}
LOOK = Tool("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}})
LISTEN = Tool("listen", "Listens.", {"type": "object", "properties": {}})

FORCED = [ToolChoice(ToolMode.REQUIRED), ToolChoice(ToolMode.NAMED, "look")]


def schema(value: Mapping[str, object]) -> OutputFormat:
    return OutputFormat(OutputKind.JSON_SCHEMA, "answer", value)


def marker() -> str:
    return uuid.uuid4().hex


async def test_a_schema_goes_to_the_api_without_the_constraints_it_refuses(
    engine: RunningEngine,
) -> None:
    mark = marker()
    answer = await engine.ask(
        user(mark + sim(text='{ "name": "Ada",\n "age": 36 }')), output_format=schema(PERSON)
    )
    assert answer.text == '{"name":"Ada","age":36}'
    sent = engine.upstream(mark)[-1].body["output_config"]["format"]["schema"]
    assert sent["properties"]["age"] == {"type": "integer"}


async def test_schemas_and_answers_are_checked_in_the_turns_of_their_caller(
    engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = engine.engine.resources.schemas._turns
    turn, callers = turns.turn, []

    def noted(caller: str) -> AbstractAsyncContextManager[None]:
        callers.append(caller)
        return turn(caller)

    monkeypatch.setattr(turns, "turn", noted)
    # Too large to be checked in-process.
    large = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(100)}}
    answer = await engine.ask(
        user(sim(text='{"p1":"x"}')), output_format=schema(large), caller="one"
    )
    assert answer.text == '{"p1":"x"}'
    assert callers == ["one", "one"]


async def test_an_answer_that_breaks_the_whole_schema_is_an_error(engine: RunningEngine) -> None:
    with pytest.raises(UnavailableError, match="does not match the schema at age") as caught:
        await engine.ask(user(sim(text='{"name": "Ada", "age": -1}')), output_format=schema(PERSON))
    assert not caught.value.retryable


@pytest.mark.parametrize(("whole", "calls"), [(True, 2), (False, 1)])
async def test_a_whole_answer_that_breaks_its_schema_is_asked_for_once_more(
    engine: RunningEngine, whole: bool, calls: int
) -> None:
    mark = marker()
    prompt = mark + sim(text='{"name": "Ada", "age": -1}')
    with pytest.raises(UnavailableError, match="does not match the schema at age") as caught:
        await engine.ask(user(prompt), output_format=schema(PERSON), whole=whole)
    assert not caught.value.retryable
    assert len(engine.upstream(mark)) == calls


async def test_the_second_answer_is_passed_on_and_both_are_counted(engine: RunningEngine) -> None:
    mark = marker()
    steps = [
        {"text": '{"name": "Ada", "age": -1}', "usage": {"output_tokens": 7}},
        {"text": '{"name": "Ada", "age": 36}', "usage": {"output_tokens": 11}},
    ]
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"{engine.simulator.base_url}/simulator/scripts/{mark}"
        (await client.put(url, json={"steps": steps})).raise_for_status()
    answer = await engine.ask(user(sim(script=mark)), output_format=schema(PERSON), whole=True)
    assert json.loads(answer.text) == {"name": "Ada", "age": 36}
    assert answer.usage is not None
    assert answer.usage.output_tokens == 18


async def test_a_schema_that_the_api_refuses_is_seen_to_by_the_cli(engine: RunningEngine) -> None:
    marks = [marker(), marker()]
    for mark in marks:
        answer = await engine.ask(
            user(mark + sim(json={"a": 1, "b": 2})), output_format=schema(MAP)
        )
        assert json.loads(answer.text) == {"a": 1, "b": 2}
        assert answer.reason == "stop"
        accepted = engine.upstream(mark)[-1]
        assert "StructuredOutput" in [tool["name"] for tool in accepted.tools]
    # The second time the result is known.
    assert all(exchange.status == 200 for exchange in engine.upstream(marks[1]))


async def test_what_is_no_schema_is_refused(engine: RunningEngine) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await engine.ask(user("x"), output_format=schema({"type": "nonsense"}))
    assert caught.value.field == "output_format"


@pytest.mark.parametrize(
    "text", ['{"a": [1, "} {"]}', 'Sure: ```json\n{"a": [1, "} {"]}\n```\nThere you are.']
)
async def test_a_json_object_comes_without_anything_around_it(
    engine: RunningEngine, text: str
) -> None:
    answer = await engine.ask(
        user(sim(text=text)), output_format=OutputFormat(OutputKind.JSON_OBJECT)
    )
    assert answer.text == '{"a":[1,"} {"]}'


async def test_an_answer_without_json_is_asked_for_once_more(engine: RunningEngine) -> None:
    mark = marker()
    with pytest.raises(UnavailableError, match="is not a JSON object"):
        await engine.ask(
            user(mark + sim(text="I would rather not.")),
            output_format=OutputFormat(OutputKind.JSON_OBJECT),
        )
    assert len(engine.upstream(mark)) == 2


async def test_a_schema_and_tools_work_together(engine: RunningEngine) -> None:
    for shape in (PERSON, MAP):
        calls = [{"name": "look", "input": {"at": "it"}}]
        answer = await engine.ask(
            user(marker() + sim(text="I look.", tools=calls)),
            tools=(LOOK,),
            output_format=schema(shape),
        )
        assert (answer.reason, answer.text) == ("tool_calls", "I look.")
        assert answer.calls[0].name == "look"


@pytest.mark.parametrize("choice", FORCED, ids=lambda choice: choice.mode)
async def test_a_forced_call_goes_to_a_model_that_takes_it(
    engine: RunningEngine, choice: ToolChoice
) -> None:
    mark = marker()
    answer = await engine.ask(user(mark), model="haiku", tools=(LOOK, LISTEN), tool_choice=choice)
    assert answer.reason == "tool_calls"
    body = engine.upstream(mark)[-1].body
    assert body["tool_choice"]["type"] in ("any", "tool")
    assert "thinking" not in body
    assert answer.ignored == ()


@pytest.mark.parametrize("choice", FORCED, ids=lambda choice: choice.mode)
async def test_a_forced_call_that_a_model_refuses_is_insisted_on(
    engine: RunningEngine, choice: ToolChoice
) -> None:
    mark = marker()
    answer = await engine.ask(
        user(mark + sim(text="I look.", tools=[{"name": "look", "input": {"at": "it"}}])),
        model="opus",
        system="S",
        tools=(LOOK, LISTEN),
        tool_choice=choice,
    )
    assert (answer.reason, answer.text) == ("tool_calls", "I look.")
    accepted = engine.upstream(mark)[-1]
    assert "tool_choice" not in accepted.body
    assert "by calling" in accepted.system_text
    offered = [tool["name"] for tool in accepted.tools]
    assert ("listen" in offered) is (choice.mode is ToolMode.REQUIRED)


async def test_plain_text_is_never_the_answer_to_a_forced_call(engine: RunningEngine) -> None:
    mark = marker()
    with pytest.raises(UnavailableError, match="does not call the tool look"):
        await engine.ask(
            user(mark + sim(text="No.")),
            model="opus",
            tools=(LOOK,),
            tool_choice=ToolChoice(ToolMode.NAMED, "look"),
        )
    assert len([x for x in engine.upstream(mark) if x.status == 200]) == 2


async def test_one_call_at_a_time(engine: RunningEngine) -> None:
    mark = marker()
    await engine.ask(user(mark), tools=(LOOK,), tool_choice=ToolChoice(parallel=False))
    choice = engine.upstream(mark)[-1].body["tool_choice"]
    assert choice == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("stop", "text"),
    [((" w3",), "w0 w1 w2"), (("\n\n", "w1 w2"), "w0 "), (("nowhere",), "w0 w1 w2 w3 w4")],
)
async def test_an_answer_ends_at_a_stop_text(
    engine: RunningEngine, stop: tuple[str, ...], text: str
) -> None:
    answer = await engine.ask(
        user(marker() + sim(tokens=5, delay_ms=1)), sampling=Sampling(stop=stop)
    )
    assert (answer.text.rstrip(), answer.reason) == (text.rstrip(), "stop")


async def test_a_blank_stop_text_is_found_by_the_bridge(engine: RunningEngine) -> None:
    mark = marker()
    answer = await engine.ask(
        user(mark + sim(text="one two\n\nthree four")), sampling=Sampling(stop=("\n\n",))
    )
    assert answer.text == "one two"
    assert "stop_sequences" not in engine.upstream(mark)[-1].body
    again = await engine.ask(user(marker() + sim(text="fine")))
    assert again.text == "fine"


async def test_thinking_is_given_where_it_is_asked_for(engine: RunningEngine) -> None:
    directive = sim(thinking="Let me think.", text="Done.")
    shown = await engine.ask(user(marker() + directive), include_thinking=True)
    assert (shown.thinking, shown.text) == ("Let me think.", "Done.")
    hidden = await engine.ask(user(marker() + directive))
    assert (hidden.thinking, hidden.text) == ("", "Done.")


async def test_no_effort_turns_thinking_off(engine: RunningEngine) -> None:
    mark = marker()
    answer = await engine.ask(user(mark + sim(text="x")), effort=Effort.NONE)
    assert "thinking" not in engine.upstream(mark)[-1].body
    assert answer.ignored == ()


async def test_strict_refuses_what_would_turn_off_asked_for_thinking(
    engine: RunningEngine,
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        await engine.ask(
            user("x"),
            model="claude-sonnet-4-6",
            effort=Effort.HIGH,
            sampling=Sampling(temperature=0.5),
            strict=True,
        )
    assert caught.value.field == "effort"


async def test_an_instruction_of_one_turn_does_not_stand_in_the_next(
    engine: RunningEngine,
) -> None:
    mark = marker()
    opening = user(mark + sim(text='{"a":1}'))
    only_json = OutputFormat(OutputKind.JSON_OBJECT)
    first = await engine.ask(opening, system="S", output_format=only_json)
    await engine.ask(opening, first.message, user("and now " + sim(text="plain")), system="S")
    assert "JSON" in engine.upstream(mark)[0].system_text
    assert "JSON" not in engine.upstream(mark)[-1].system_text
    again = await engine.ask(
        opening,
        first.message,
        user("and now " + sim(text="plain")),
        assistant("plain"),
        user("back " + sim(text='{"b":2}')),
        system="S",
        output_format=only_json,
    )
    assert again.text == '{"b":2}'
    assert "JSON" in engine.upstream(mark)[-1].system_text


async def test_arguments_that_a_limit_cut_end_in_length(engine: RunningEngine) -> None:
    calls = [{"name": "look", "input": {"at": "x" * 400}}]
    answer = await engine.ask(user(marker() + sim(tools=calls)), tools=(LOOK,), max_output_tokens=5)
    assert answer.reason == "length"


async def test_a_stop_text_does_not_excuse_from_the_shape(engine: RunningEngine) -> None:
    with pytest.raises(UnavailableError, match="is not a JSON object"):
        await engine.ask(
            user(marker() + sim(text='{"a": 1,\n "b": 2}')),
            output_format=OutputFormat(OutputKind.JSON_OBJECT),
            sampling=Sampling(stop=("\n",)),
        )


async def test_a_model_that_follows_the_instruction_needs_no_second_try(
    engine: RunningEngine,
) -> None:
    mark = marker()
    answer = await engine.ask(user(mark), output_format=OutputFormat(OutputKind.JSON_OBJECT))
    assert mark in json.loads(answer.text)["answer"]
    assert len(engine.upstream(mark)) == 1
    for choice in FORCED:
        called = await engine.ask(
            user(marker()), model="opus", tools=(LOOK, LISTEN), tool_choice=choice
        )
        assert called.reason == "tool_calls"
