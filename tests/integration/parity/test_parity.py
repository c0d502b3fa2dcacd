"""Whatever goes through one API comes out of the others alike."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from bridge.core.contract.usage import Usage
from tests.integration.parity.scenarios import SCENARIOS, new_marker
from tests.support.all_apis import ALL_APIS, UNSAYABLE, apis_of
from tests.support.apis import (
    FIELDS,
    Scenario,
    grpc_names,
    over_grpc,
    over_http,
    seen_by_model,
)
from tests.support.harness import RunningBridge
from tests.support.http.client import Json
from tests.support.http.messages import FIELDS as MESSAGES_FIELDS
from tests.support.http.messages import Unwritable, body_of
from tests.support.replies import Call, Reply
from tests.support.waiting import at_once

ANSWERED = [scenario for scenario in SCENARIOS if not scenario.code]
FAILING = [scenario for scenario in SCENARIOS if scenario.code]


def told(reply: Reply) -> Reply:
    """Without what depends on which request came first: where the prompt's tokens came from.

    Nor in how many pieces it came: over gRPC those that wait are joined.

    Nor with the tokens of a call that Claude Code makes by itself after an answer that was cut or
    has no text: they are counted as far as they were reported before the interrupt.
    """
    unseen = reply.finish == "length" or not (reply.text or reply.calls)
    usage = Usage() if unseen else reply.usage
    return replace(
        reply,
        chunks=0,
        calls=[Call(call.id, call.name, (call.arguments,)) for call in reply.calls],
        usage=Usage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            thinking_tokens=usage.thinking_tokens,
        ),
    )


def failed(reply: Reply) -> Reply:
    """The failure alone, and of it what is true wherever in the answer it came."""
    assert reply.failure is not None
    return Reply(failure=replace(reply.failure, retryable=None, retry_after=None))


def without_words(reply: Reply) -> Reply:
    """Without the text of an error."""
    assert reply.failure is not None
    assert reply.failure.message
    return replace(reply, failure=replace(reply.failure, message=""))


def common(scenario: Scenario, body: Json | None) -> Json | None:
    """The request that reached the model, without a limit that the Messages API alone requires."""
    if body is None or {"max_tokens", "max_completion_tokens"} & scenario.http.keys():
        return body
    return {name: value for name, value in body.items() if name != "max_tokens"}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_all_apis_answer_alike(bridge: RunningBridge, scenario: Scenario) -> None:
    apis = apis_of(scenario)
    markers = {name: new_marker() for name in apis}
    calls = (partial(api, bridge, scenario, markers[name]) for name, api in apis.items())
    answers = dict(zip(apis, at_once(*calls), strict=True))
    tell = failed if scenario.abrupt else told
    replys = {name: tell(answer) for name, answer in answers.items()}
    upstream = {name: seen_by_model(bridge, marker) for name, marker in markers.items()}
    assert upstream["http"] == upstream["grpc"]
    assert all(
        common(scenario, body) == common(scenario, upstream["http"]) for body in upstream.values()
    )
    if scenario.own_words:
        replys = {name: without_words(answer) for name, answer in replys.items()}
    assert replys == dict.fromkeys(apis, replys["http"])

    seen, body = replys["http"], upstream["http"] or {}
    if scenario.code:
        assert seen.failure is not None
        assert seen.failure.reason == scenario.code
        assert scenario.said in seen.failure.message
        assert (seen.failure.field,) == grpc_names([scenario.field])
    else:
        assert seen.failure is None
        assert (seen.finish, seen.ignored) == (scenario.finish, grpc_names(scenario.ignored))
        assert seen.model == body["model"]
    assert {name: body.get(name) for name in scenario.sent} == dict(scenario.sent)


def test_the_messages_api_has_words_for_all_other_scenarios() -> None:
    unwritable = set()
    for scenario in SCENARIOS:
        try:
            body_of(scenario, "")
        except Unwritable:
            unwritable.add(scenario.name)

    assert unwritable == UNSAYABLE["messages"].keys()


@pytest.mark.parametrize("scenario", ANSWERED[::4], ids=lambda scenario: scenario.name)
def test_an_answer_is_the_same_whole_and_streamed(
    bridge: RunningBridge, scenario: Scenario
) -> None:
    whole, streamed, over_the_other = at_once(
        lambda: told(over_http(bridge, scenario, new_marker(), stream=False)),
        lambda: told(over_http(bridge, scenario, new_marker())),
        lambda: told(over_grpc(bridge, scenario, new_marker(), stream=False)),
    )
    assert whole == streamed == over_the_other


@pytest.mark.parametrize("scenario", FAILING[::4], ids=lambda scenario: scenario.name)
def test_an_error_is_the_same_whole_and_streamed(bridge: RunningBridge, scenario: Scenario) -> None:
    whole, streamed = at_once(
        lambda: failed(over_grpc(bridge, scenario, new_marker(), stream=False)),
        lambda: failed(over_grpc(bridge, scenario, new_marker())),
    )
    assert whole == streamed


@pytest.mark.parametrize("api", ALL_APIS)
def test_cached_tokens_are_reported(bridge: RunningBridge, api: str) -> None:
    scenario = next(one for one in SCENARIOS if one.name == "usage as the API counts it")
    reply = ALL_APIS[api](bridge, scenario, new_marker())
    assert reply.usage == Usage(11, 22, 33, 44)


def test_each_row_of_the_table_of_names_is_needed() -> None:
    named = {name for scenario in SCENARIOS for name in (scenario.field, *scenario.ignored)}
    assert set(FIELDS) <= named
    assert set(MESSAGES_FIELDS) <= named
