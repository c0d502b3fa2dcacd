"""Whatever goes through one door comes out of the other alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bridge.core.contract.usage import Usage
from tests.integration.parity.scenarios import SCENARIOS, new_marker
from tests.support.apis import (
    DOORS,
    FIELDS,
    NO_USAGE,
    Call,
    Scenario,
    Transcript,
    grpc_names,
    seen_by_model,
    through_http,
    through_http_at_once,
)
from tests.support.harness import RunningBridge

ANSWERED = [scenario for scenario in SCENARIOS if not scenario.code]


def told(transcript: Transcript) -> Transcript:
    """Without what depends on which request came first: where the prompt's tokens came from.

    Nor with the tokens of a call that Claude Code makes by itself after an answer that was cut or
    has no text: they are counted as far as they were reported before the interrupt.
    """
    unseen = transcript.finish == "length" or not (transcript.text or transcript.calls)
    usage = NO_USAGE if unseen else transcript.usage
    return replace(
        transcript,
        usage=Usage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            thinking_tokens=usage.thinking_tokens,
        ),
    )


def failed(transcript: Transcript) -> Transcript:
    """The failure alone, and of it what is true wherever in the answer it came."""
    assert transcript.failure is not None
    return Transcript(failure=replace(transcript.failure, retry=None))


def without_words(transcript: Transcript) -> Transcript:
    """Without what an error says."""
    assert transcript.failure is not None
    assert transcript.failure.message
    return replace(transcript, failure=replace(transcript.failure, message=""))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_both_doors_answer_alike(bridge: RunningBridge, scenario: Scenario) -> None:
    markers = {name: new_marker() for name in DOORS}
    with ThreadPoolExecutor() as threads:
        running = {
            name: threads.submit(door, bridge, scenario, markers[name])
            for name, door in DOORS.items()
        }
        answers = {name: answer.result() for name, answer in running.items()}
    tell = failed if scenario.abrupt else told
    transcripts = {name: tell(answer) for name, answer in answers.items()}
    upstream = {name: seen_by_model(bridge, marker) for name, marker in markers.items()}
    assert upstream["http"] == upstream["grpc"]
    if scenario.own_words:
        transcripts = {name: without_words(answer) for name, answer in transcripts.items()}
    assert transcripts["http"] == transcripts["grpc"]

    seen, body = transcripts["http"], upstream["http"] or {}
    if scenario.code:
        assert seen.failure is not None
        assert seen.failure.code == scenario.code
        assert scenario.said in seen.failure.message
        assert (seen.failure.field,) == grpc_names([scenario.field])
    else:
        assert seen.failure is None
        assert (seen.finish, seen.ignored) == (scenario.finish, grpc_names(scenario.ignored))
        assert seen.model == body["model"]
    assert {name: body.get(name) for name in scenario.sent} == dict(scenario.sent)


@pytest.mark.parametrize("scenario", ANSWERED[::4], ids=lambda scenario: scenario.name)
def test_an_answer_is_the_same_whole_and_streamed(
    bridge: RunningBridge, scenario: Scenario
) -> None:
    """Over gRPC every answer is a stream; one over HTTP need not be."""
    whole = told(through_http_at_once(bridge, scenario, new_marker()))
    streamed = told(through_http(bridge, scenario, new_marker()))
    calls = tuple(Call(call.id, call.name, (call.arguments,)) for call in streamed.calls)
    assert whole == replace(streamed, chunks=0, calls=calls)


@pytest.mark.parametrize("door", DOORS)
def test_cached_tokens_are_told(bridge: RunningBridge, door: str) -> None:
    scenario = next(one for one in SCENARIOS if one.name == "usage as the API counts it")
    transcript = DOORS[door](bridge, scenario, new_marker())
    assert transcript.usage == Usage(11, 22, 33, 44)


def test_each_row_of_the_table_of_names_is_needed() -> None:
    named = {name for scenario in SCENARIOS for name in (scenario.field, *scenario.ignored)}
    assert set(FIELDS) <= named
