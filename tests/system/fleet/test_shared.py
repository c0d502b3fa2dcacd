"""What the replicas of a fleet share: answers by their ids, and claims to a request's id."""

from __future__ import annotations

import uuid
from typing import Any

from tests.support.harness import sim
from tests.support.http.response_events import check_response
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.programs import eventually
from tests.system.fleet.replica import Replica

RESPONSES = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def respond(replica: Replica, text: Any, **fields: Any) -> dict[str, Any]:
    """Make a response at this replica."""
    reply = replica.ask(RESPONSES, {"model": "default", "input": text, **fields})
    assert reply.status_code == 200, reply.text
    return check_response(reply.json())


def text_of(response: dict[str, Any]) -> str:
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


def test_a_response_is_continued_at_another_replica(fleet: Fleet) -> None:
    mark = uuid.uuid4().hex
    first = respond(fleet["anna"], sim(text="Blue.", note=mark))
    second = respond(fleet["ben"], sim(text="Red."), previous_response_id=first["id"])
    assert text_of(second) == "Red."
    last = fleet.upstream(mark)[-1]
    assert last.credential == fleet["ben"].token
    assert [role for role in last.roles if role != "system"] == ["user", "assistant", "user"]
    assert last.contains("Blue.")
    assert fleet["cleo"].ask(f"{RESPONSES}/{first['id']}").json()["id"] == first["id"]


def test_the_results_of_calls_are_given_at_another_replica(fleet: Fleet) -> None:
    mark = uuid.uuid4().hex
    prompt = sim(tools=[{"name": "weather", "input": {"city": "Rome"}}], note=mark)
    first = respond(fleet["anna"], prompt, tools=[TOOL])
    (call,) = (item for item in first["output"] if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."}
    second = respond(
        fleet["cleo"],
        [result, {"role": "user", "content": sim(text="It is sunny.")}],
        tools=[TOOL],
        previous_response_id=first["id"],
    )
    assert text_of(second) == "It is sunny."
    last = fleet.upstream(mark)[-1]
    assert last.credential == fleet["cleo"].token
    assert last.contains("Sunny.")


def test_a_conversation_goes_on_at_another_replica(fleet: Fleet) -> None:
    mark = uuid.uuid4().hex
    made = fleet["anna"].ask("/v1/conversations", {}).json()
    respond(fleet["anna"], sim(text="One.", note=mark), conversation=made["id"])
    respond(fleet["ben"], sim(text="Two."), conversation=made["id"])
    items = fleet["cleo"].ask(f"/v1/conversations/{made['id']}/items?order=asc").json()["data"]
    assert [item["role"] for item in items] == ["user", "assistant"] * 2
    assert fleet.upstream(mark)[-1].contains("One.")


def test_another_replica_names_the_one_that_has_a_background_response(fleet: Fleet) -> None:
    endless = sim(endless=True, delay_ms=20)
    running = respond(fleet["anna"], endless, background=True)
    path = f"{RESPONSES}/{running['id']}"
    eventually(
        lambda: fleet["anna"].ask(path).json()["status"] == "in_progress",
        lambda: fleet["anna"].ask(path).text,
    )
    for elsewhere in (
        fleet["ben"].ask(path),
        fleet["ben"].ask(f"{path}/cancel", {}),
    ):
        assert elsewhere.status_code == 409, elsewhere.text
        assert "anna" in elsewhere.json()["error"]["message"]
    cancelled = fleet["anna"].ask(f"{path}/cancel", {}).json()
    assert cancelled["status"] == "cancelled"
    # It has ended: now every replica has it.
    eventually(
        lambda: fleet["ben"].ask(path).json().get("status") == "cancelled",
        lambda: fleet["ben"].ask(path).text,
    )


def test_an_id_of_a_request_is_claimed_once_over_the_fleet(fleet: Fleet) -> None:
    mark = uuid.uuid4().hex
    body = {"model": "default", "input": sim(text="Once.", note=mark), "background": True}
    answers = [one.ask(RESPONSES, body, **{"idempotency-key": mark}) for one in fleet.replicas]
    assert answers[0].status_code == 200
    assert [answer.status_code for answer in answers[1:]] == [409, 409]
    eventually(
        lambda: [call.ended for call in fleet.upstream(mark)] == ["completed"],
        lambda: str(fleet.upstream(mark)),
    )
