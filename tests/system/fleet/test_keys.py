"""Keys and their limits: the same at each replica, and counted over all of them."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from tests.support.harness import PATIENCE, sim
from tests.support.http.client import CHAT
from tests.support.waiting import at_once
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.programs import eventually
from tests.system.fleet.replica import Replica

pytestmark = pytest.mark.usefixtures("fleet")


def status(replica: Replica, key: str, text: str = "Hello?") -> int:
    body = {"model": "default", "messages": [{"role": "user", "content": text}]}
    return replica.ask(CHAT, body, key=key).status_code


def add_key(fleet: Fleet, *limits: str) -> tuple[str, str]:
    """Add a key of one's own at one replica; return its name and secret when all know it."""
    name = f"key-{uuid.uuid4().hex[:8]}"
    secret = fleet["anna"].run("keys", "add", name, "--mine", *limits)
    for replica in fleet.replicas:
        known(replica, secret)
    return name, secret


def known(replica: Replica, secret: str, *, wanted: int = 200) -> None:
    """Wait until a replica takes a key, or refuses it."""

    def agreed() -> bool:
        return replica.ask("/v1/models", key=secret).status_code == wanted

    eventually(agreed, lambda: f"{replica.name} answers {wanted}")


def test_a_key_opens_every_replica_until_it_is_revoked(fleet: Fleet) -> None:
    name, secret = add_key(fleet)
    assert [status(replica, secret) for replica in fleet.replicas] == [200] * 3
    fleet["ben"].run("keys", "revoke", name)
    for replica in fleet.replicas:
        known(replica, secret, wanted=401)


def test_requests_per_minute_are_counted_over_the_fleet(fleet: Fleet) -> None:
    _, secret = add_key(fleet, "--per-minute", "4")
    asking = [lambda r=replica: status(r, secret) for replica in fleet.replicas * 3]
    assert Counter(at_once(*asking)) == {200: 4, 429: 5}


def test_concurrent_requests_are_counted_over_the_fleet(fleet: Fleet) -> None:
    _, secret = add_key(fleet, "--concurrent", "1")
    mark = uuid.uuid4().hex
    with fleet["anna"].streaming(sim(endless=True, delay_ms=20, note=mark), key=secret):
        fleet.simulator.ledger.wait_for(
            lambda all: any(one.contains(mark) for one in all), PATIENCE
        )
        assert status(fleet["ben"], secret) == 429
    eventually(lambda: status(fleet["ben"], secret) == 200, lambda: "the place is free again")


def test_tokens_are_counted_over_the_fleet(fleet: Fleet) -> None:
    _, secret = add_key(fleet, "--tokens-per-day", "1")
    assert status(fleet["anna"], secret) == 200
    eventually(lambda: status(fleet["ben"], secret) == 429, lambda: "ben knows of the tokens")
    assert status(fleet["cleo"], secret) == 429


def test_a_limit_that_is_changed_holds_at_every_replica(fleet: Fleet) -> None:
    name, secret = add_key(fleet, "--per-minute", "1000")
    fleet["cleo"].run("keys", "edit", name, "--per-minute", "1")

    def refused() -> bool:
        # The one request of this minute may be any of these.
        return [status(replica, secret) for replica in fleet.replicas] == [429] * 3

    eventually(refused, lambda: "every replica has the new limit")
