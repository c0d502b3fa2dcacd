"""Accounts: each credential has what the API accepts of it, and is seen in the ledger."""

from typing import Any

import httpx
import pytest

from bridge.simulator import Simulator
from bridge.simulator.accounts import EVERYTHING, LITTLE, NOTHING, parse
from bridge.simulator.script import BadDirective
from tests.support.simulator_client import failed, post, request, run, said

IDENTITY = "You are a Claude agent, built on Anthropic's Claude Agent SDK."
FORM = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}


def plain(**fields: Any) -> dict[str, Any]:
    return request(text="ok") | {"system": IDENTITY} | fields


def key(name: str) -> dict[str, dict[str, str]]:
    return {"headers": {"x-api-key": name}}


def test_each_credential_is_answered_by_its_account_and_seen() -> None:
    async def scenario(simulator: Simulator, client: httpx.AsyncClient) -> None:
        assert said((await post(client, plain(), **key("all"))).text) == "ok"
        assert failed(await post(client, plain(), **key("none")))[2].startswith("This organization")
        assert failed(await post(client, plain(), **key("other")))[2] == "invalid x-api-key"
        del client.headers["x-api-key"]
        revoked = await post(client, plain(), headers={"authorization": "Bearer gone"})
        assert failed(revoked)[:2] == (403, "permission_error")
        unknown = await post(client, plain(), headers={"authorization": "Bearer who"})
        assert failed(unknown)[2] == "Invalid authentication credentials"
        borne = [(e.credential, e.status) for e in simulator.ledger.exchanges()]
        assert borne == [("all", 200), ("none", 400), ("other", 401), ("gone", 403), ("who", 401)]
        listed = (await client.get("/simulator/requests")).json()["requests"]
        assert [(seen["credential"], seen["status"]) for seen in listed] == borne

    accounts = {"all": "everything", "none": "nothing", "gone": {"failure": "revoked"}}
    run(scenario, accounts={"accounts": accounts})


@pytest.mark.parametrize(
    "fields",
    [
        {"output_config": {"format": FORM}},
        {"temperature": 1},
        {"stop_sequences": ["x"]},
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ],
)
def test_little_is_refused_by_name(fields: dict[str, Any]) -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        assert said((await post(client, plain(), **key("little"))).text) == "ok"
        status, kind, message = failed(await post(client, plain(**fields), **key("little")))
        assert (status, kind) == (400, "invalid_request_error")
        assert message.startswith(next(iter(fields)))
        assert message.endswith("Extra inputs are not permitted")
        foreign = failed(await post(client, plain(system="Be brief."), **key("little")))
        assert "only authorized for use with Claude Code" in foreign[2]
        assert (await post(client, plain(**fields), **key("all"))).status_code == 200

    run(scenario, accounts={"accounts": {"little": "little", "all": "everything"}})


def test_models_may_refuse_fields_and_be_missing() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        effort = {"output_config": {"effort": "low"}}
        assert (await post(client, plain(**effort))).status_code == 200
        haiku = plain(**effort, model="claude-haiku-5-5")
        assert failed(await post(client, haiku))[2].startswith("output_config.effort: ")
        sonnet = failed(await post(client, plain(model="claude-sonnet-5-5")))
        assert sonnet == (404, "not_found_error", "model: claude-sonnet-5-5")

    account = {"models": ["opus", "haiku"], "refuses": {"haiku": ["output_config.effort"]}}
    run(scenario, accounts={"accounts": {"any": account}})


def test_limits_are_reached_and_reported() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        for _n in range(2):
            response = await post(client, plain())
            assert response.headers["anthropic-ratelimit-unified-status"] == "allowed_warning"
        response = await post(client, plain())
        assert failed(response)[:2] == (429, "rate_limit_error")
        assert response.headers["anthropic-ratelimit-unified-status"] == "rejected"
        assert int(response.headers["retry-after"]) > 3600

    headers = {"anthropic-ratelimit-unified-status": "allowed_warning"}
    run(scenario, accounts={"accounts": {"any": {"requests": 2, "headers": headers}}})


def test_accounts_are_replaced_while_it_runs() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        assert (await post(client, plain())).status_code == 200
        accounts = {"accounts": {"any": "nothing"}}
        assert (await client.put("/simulator/accounts", json=accounts)).status_code == 200
        assert (await post(client, plain())).status_code == 400
        bad = await client.put("/simulator/accounts", json={"accounts": {"any": "some"}})
        assert "account: 'some' is not one of" in failed(bad)[2]
        await client.put("/simulator/accounts", json={})
        assert (await post(client, plain())).status_code == 200

    run(scenario)


def test_a_refresh_token_gives_its_credential_or_an_invalid_grant() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        ask = {"grant_type": "refresh_token", "refresh_token": "mine", "scope": "user:inference"}
        given = (await client.post("/v1/oauth/token", json=ask)).json()
        assert (given["access_token"], given["token_type"]) == ("fresh", "Bearer")
        refused = await client.post("/v1/oauth/token", json=ask | {"refresh_token": "old"})
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")

    run(scenario, accounts={"refresh_tokens": {"mine": "fresh"}})


def test_accounts_are_parsed_from_json() -> None:
    assert [parse(name) for name in ("everything", "little", "nothing")] == [
        EVERYTHING,
        LITTLE,
        NOTHING,
    ]
    assert parse({"like": "little", "claude_code_only": False}).refuses == LITTLE.refuses
    with pytest.raises(BadDirective, match="account: unknown key 'limit'"):
        parse({"limit": 1})
