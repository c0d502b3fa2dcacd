"""What a killed replica was doing does not count for ever."""

from __future__ import annotations

import uuid

from tests.support.harness import LONG, PATIENCE, sim
from tests.support.http.client import CHAT
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.programs import eventually


@LONG
def test_a_killed_replica_gives_its_concurrent_requests_back(fleet: Fleet) -> None:
    secret = fleet["anna"].run("keys", "add", "leases", "--mine", "--concurrent", "1")
    for replica in fleet.replicas:
        replica.takes(secret)
    body = {"model": "default", "messages": [{"role": "user", "content": "Hello?"}]}

    def status() -> int:
        return fleet["cleo"].ask(CHAT, body, key=secret).status_code

    mark = uuid.uuid4().hex
    with fleet["ben"].streaming(sim(endless=True, delay_ms=20, note=mark), key=secret):
        fleet.simulator.ledger.wait_for(
            lambda all: any(one.contains(mark) for one in all), PATIENCE
        )
        fleet["ben"].program.kill()
    assert status() == 429
    # Its lease ends after 30 seconds.
    eventually(lambda: status() == 200, lambda: "the place is free again")
