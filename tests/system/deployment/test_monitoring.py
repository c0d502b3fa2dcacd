"""The dashboard and the alerts: what they read exists, and Prometheus can evaluate it."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse

from bridge.core.access.keys import KeyFile, KeyLimits, KeyOwner, KeyUse
from bridge.core.contract.events import FinishReason
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim
from tests.support.paid_server import KEY, LOGIN, PaidBridge, paid_bridge
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.system.deployment.monitoring import (
    ALERTS,
    DASHBOARD,
    Query,
    alerts,
    panels,
    variables_used,
)
from tests.system.deployment.tools import program

PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
JOB: Final = "claude-code-bridge"
OF_PROMETHEUS: Final = {"job", "instance"}
"""Labels that Prometheus adds to every metric."""
COLUMNS: Final = 24
ANSWERED: Final = "Answered."
MONITOR: Final = "a-key-for-prometheus"
KEYS: Final[Mapping[str, Any]] = {"bridge_api_keys": f"monitor:admin:mine={MONITOR}"}
_LIMITS: Final = "anthropic-ratelimit-unified-"
NEARLY_USED: Final = {
    f"{_LIMITS}status": "allowed_warning",
    f"{_LIMITS}reset": "4102444800",
    f"{_LIMITS}representative-claim": "five_hour",
    f"{_LIMITS}5h-utilization": "0.95",
    f"{_LIMITS}5h-surpassed-threshold": "0.9",
    f"{_LIMITS}5h-reset": "4102444800",
}


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread) -> Iterator[PaidBridge]:
    """A bridge with two payers and a budget, which has answered."""
    home = tmp_path_factory.mktemp("monitored")
    with paid_bridge(home, loop_thread, ("mine", "team"), {}, **KEYS) as paid:
        use = KeyUse(KeyOwner.OTHER, ("team",))
        limits = KeyLimits(tokens_per_day=1_000_000)
        anna = KeyFile(home / "state" / "keys.json").add("anna", limits=limits, use=use)
        known = PaidBridge(paid.bridge, paid.simulator, home, {"monitor": MONITOR, "anna": anna})
        _ask_until_known(known)
        accounts = {LOGIN: {"headers": NEARLY_USED}, KEY: "everything"}
        known.simulator.accounts.load({"accounts": accounts})
        assert known.ask("monitor", sim(text=ANSWERED)).status_code == 200
        yield known


def _ask_until_known(paid: PaidBridge) -> None:
    """Keys become valid while the server runs."""
    until = time.monotonic() + PATIENCE
    while (reply := paid.ask("anna", sim(text=ANSWERED))).status_code == 401:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert reply.status_code == 200, reply.text


@pytest.fixture(scope="module")
def linked(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    """A bridge with Redis."""
    folder = tmp_path_factory.mktemp("linked")
    redis = RedisServer(folder / "redis")
    redis.start()
    settings = settings_for_tests(folder / "state", bridge_redis_url=redis.url, **KEYS)
    running = RunningBridge(settings, loop_thread)
    running.start()
    yield running
    running.stop()
    redis.close()


def scraped(bridge: RunningBridge) -> str:
    headers = {"authorization": f"Bearer {MONITOR}"}
    reply = httpx.get(f"{bridge.url}/metrics", headers=headers, timeout=PATIENCE)
    assert reply.status_code == 200
    return reply.text


def test_what_the_dashboard_and_the_alerts_read_exists(
    paid: PaidBridge, linked: RunningBridge
) -> None:
    exist: dict[str, set[str]] = {"up": OF_PROMETHEUS}
    for bridge in (paid.bridge, linked):
        for family in parse(scraped(bridge)):
            for sample in family.samples:
                exist.setdefault(sample.name, set()).update(sample.labels)
    queries = [*alerts(), *panels()]
    assert len(queries) > 40
    unknown = {
        query.place: missing
        for query in queries
        if (
            missing := [
                (name, labels - exist.get(name, set()) - OF_PROMETHEUS)
                for name, labels in query.selected().items()
                if name not in exist or labels - exist[name] - OF_PROMETHEUS
            ]
        )
    }
    assert unknown == {}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('sum by (nothing) (bridge_serving{instance="a"})', "nothing"),
        ('bridge_serving{replica="a"}', "replica"),
    ],
)
def test_a_label_is_found_in_a_query(text: str, missing: str) -> None:
    assert missing in Query("", text).selected()["bridge_serving"]


def test_outcomes_that_are_named_exist() -> None:
    """A finish reason, or the reason of an error somewhere in the code, in lower case."""
    code = "\n".join(path.read_text() for path in (ROOT / "bridge" / "core").rglob("*.py"))
    known = {reason.lower() for reason in re.findall(r"\"([A-Z][A-Z_]+)\"", code)}
    known |= {str(reason) for reason in FinishReason}
    named = {value for query in (*alerts(), *panels()) for value in query.values("outcome")}
    assert {"stop", "queue_full", "internal"} < named
    assert {name for name in named if not any(re.fullmatch(name, one) for one in known)} == set()


def test_panels_do_not_overlap_and_use_the_variables_there_are() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert variables_used() == {one["name"] for one in DASHBOARD["templating"]["list"]}


def test_the_alerts_fire_when_they_should() -> None:
    promtool = program("promtool")
    for command in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")):
        done = subprocess.run(
            [promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test() -> None:
    tests = (PROMETHEUS / "alerts.test.yaml").read_text()
    assert [alert.place for alert in alerts() if alert.place not in tests] == []


def test_prometheus_evaluates_every_panel(
    paid: PaidBridge, linked: RunningBridge, tmp_path: Path
) -> None:
    bridges = (paid.bridge, linked)
    with (
        _prometheus(bridges, tmp_path) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        waiting = list(panels())
        until = time.monotonic() + PATIENCE
        while waiting:
            # What is counted per second needs two different readings.
            assert paid.ask("anna", sim(text=ANSWERED)).status_code == 200
            assert paid.ask("anna", "Hello", temperature=9).status_code == 400
            waiting = [query for query in waiting if not _result(client, query)]
            assert time.monotonic() < until, waiting
        up = _result(client, Query("", f'up{{job="{JOB}"}} == 1'))
        assert len(up) == len(bridges)
        rules = client.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert {rule["name"] for rule in rules} == {alert.place for alert in alerts()}
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def _result(client: httpx.Client, query: Query) -> list[Any]:
    reply = client.get("/api/v1/query", params={"query": query.text})
    assert reply.status_code == 200, (query, reply.text)
    result: list[Any] = reply.json()["data"]["result"]
    return result


@contextmanager
def _prometheus(bridges: Iterable[RunningBridge], folder: Path) -> Iterator[str]:
    """Prometheus with the alerts, reading the metrics of bridges; skips where it is absent."""
    prometheus = program("prometheus")
    scrape: Mapping[str, Any] = {
        "job_name": JOB,
        "scrape_interval": "500ms",
        "scrape_timeout": "500ms",
        "static_configs": [{"targets": [one.url.removeprefix("http://") for one in bridges]}],
        "authorization": {"credentials": MONITOR},
    }
    configuration = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = (prometheus, f"--config.file={folder}/prometheus.yaml")
    options = (f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}")
    with (folder / "output").open("w+") as output:
        running = subprocess.Popen((*command, *options), stdout=output, stderr=output)
        try:
            until = time.monotonic() + PATIENCE
            while not _ready(f"http://{address}/-/ready"):
                assert running.poll() is None, (folder / "output").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield f"http://{address}"
        finally:
            running.terminate()
            running.wait(PATIENCE)


def _ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).status_code == 200
    return False
