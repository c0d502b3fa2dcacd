"""Of the user's own settings only the default model and the login reach a caller.

The same requests are made with a settings folder that holds these and nothing else, and with one
that holds everything. What reaches the model's API is the same to the last byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from bridge.core.contract.request import TextPart, ToolResultPart
from bridge.simulator import Simulator
from tests.integration.parity.scenarios import BOTH, PERSON, SAMPLED, call, new_marker, schema
from tests.support import hostile
from tests.support.apis import APIS, Scenario
from tests.support.harness import LoopThread, assistant, sim, user
from tests.support.user_server import UserBridge, running_simulator, user_bridge

SCENARIOS = [
    Scenario("preset", (user("{id} " + sim(text="ok")),)),
    Scenario("system", (user("{id} /evil " + sim(text="ok")),), system="S"),
    Scenario("history", (user("{id}"), assistant("yes"), user(sim(text="ok")))),
    Scenario(
        "model and effort",
        (user("{id} " + sim(text="ok")),),
        http={"model": "opus", "reasoning_effort": "low", "max_completion_tokens": 55},
        grpc={"model": "opus", "effort": "EFFORT_LOW", "max_output_tokens": 55},
    ),
    Scenario(
        "sampling",
        (user("{id} " + sim(text="ok")),),
        http={"model": SAMPLED, "temperature": 0.5, "stop": ["END"]},
        grpc={"model": SAMPLED, "sampling": {"temperature": 0.5, "stop": ["END"]}},
    ),
    Scenario("schema", (user("{id} " + sim(json={"name": "A", "age": 1})),), **schema(PERSON)),
]
QUESTION = user("{id} " + sim(turns=[{"tools": [call()]}, {"text": "ok"}]))


def personal(simulator: Simulator) -> dict[str, Any]:
    """What the user means callers to have."""
    return {
        "model": "haiku",
        "env": {
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "CLAUDE_CODE_OAUTH_TOKEN": "simulated",
        },
    }


def upstream(bridge: UserBridge) -> list[tuple[Any, Any]]:
    """The bodies and headers that each scenario comes to, made alike in what names the run."""
    made = []
    for scenario, api in zip(SCENARIOS, cycle(APIS), strict=False):
        marker = new_marker()
        reply = APIS[api](bridge, scenario, marker)
        assert reply.failure is None, (scenario.name, reply.failure)
        made.append(_alike(bridge, marker))
    # A call of the caller's tool, and its result while the call waits.
    marker = new_marker()
    asked = Scenario("", (QUESTION,), tools=BOTH)
    answer = APIS["grpc"](bridge, asked, marker)
    assert [call.name for call in answer.calls] == ["look"]
    bridge.wait_until_settled()
    results = (ToolResultPart(call.id, (TextPart("seen " * 99),)) for call in answer.calls)
    last = Scenario("", (QUESTION, answer.message, user(*results)), tools=BOTH)
    assert APIS["http"](bridge, last, marker).text == "ok"
    made.append(_alike(bridge, marker))
    return made


def _alike(bridge: UserBridge, marker: str) -> tuple[Any, Any]:
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    names = {
        marker: "MARKER",
        str(bridge.bridge.engine.launcher.folder): "FOLDER",
        bridge.simulator.base_url.removeprefix("http://"): "API",
    }
    text = json.dumps([exchange.body, dict(exchange.headers)], sort_keys=True)
    for name, stands_for in names.items():
        text = text.replace(name, stands_for)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"(device_id\W+|cch=|cc_version=)[\w.]+", r"\1", text)
    text = re.sub(r'"content-length": "\d+"', '"content-length": ""', text)
    body, headers = json.loads(text)
    return body, headers


@contextmanager
def serving_as(home: Path, loop: LoopThread, simulator: Simulator) -> Iterator[UserBridge]:
    with user_bridge(home, loop, simulator, bridge_spares=2) as bridge:
        yield bridge


def test_nothing_but_the_default_model_and_the_login_reaches_a_caller(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    markers = tmp_path / "markers"
    with running_simulator(loop_thread) as simulator:
        plain = tmp_path / "plain" / ".claude"
        plain.mkdir(parents=True)
        (plain / "settings.json").write_text(json.dumps(personal(simulator)))
        with serving_as(plain.parent, loop_thread, simulator) as bridge:
            expected = upstream(bridge)
        evil = tmp_path / "evil" / ".claude"
        hostile.write(evil, tmp_path / "project", markers, personal(simulator))
        with serving_as(evil.parent, loop_thread, simulator) as bridge:
            seen = upstream(bridge)
    assert hostile.ran(markers) == set()
    assert "LEAK" not in json.dumps(seen)
    for (body, headers), (expected_body, expected_headers) in zip(seen, expected, strict=True):
        assert json.dumps(body, indent=1) == json.dumps(expected_body, indent=1)
        assert headers == expected_headers
    assert seen[0][0]["model"].startswith("claude-haiku-")
    assert seen[0][1]["authorization"] == "Bearer simulated"


def test_a_login_helper_of_the_user_is_run_and_its_key_used(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    """A command of the user's, as with Claude Code itself: it is their login."""
    with running_simulator(loop_thread) as simulator:
        config = tmp_path / ".claude"
        config.mkdir()
        settings = {
            "apiKeyHelper": "echo key-of-the-helper",
            "env": {"ANTHROPIC_BASE_URL": simulator.base_url},
        }
        (config / "settings.json").write_text(json.dumps(settings))
        with user_bridge(tmp_path, loop_thread, simulator, bridge_spares=0) as bridge:
            marker = new_marker()
            APIS["grpc"](bridge, Scenario("", (user("{id} " + sim(text="ok")),)), marker)
        (exchange,) = simulator.ledger.exchanges(containing=marker)
        assert "key-of-the-helper" in (
            exchange.headers.get("x-api-key"),
            exchange.headers.get("authorization", "").removeprefix("Bearer "),
        )
