"""The state of several payers as one."""

from __future__ import annotations

from dataclasses import replace

from bridge.core.contract.states import Health, HealthStatus
from bridge.core.payers.states import health_of

WELL = Health(HealthStatus.OK, True, "token", "2.1.0")
LIMITED = Health(HealthStatus.USAGE_LIMIT, True, "token", "2.1.0", resets_at=200.0)


def test_a_server_is_well_while_a_payer_is_and_names_no_time() -> None:
    health = health_of({"one": LIMITED, "two": WELL})
    assert (health.serving, health.resets_at) == (True, None)


def test_if_none_can_serve_the_first_to_return_counts() -> None:
    out = Health(HealthStatus.NOT_LOGGED_IN, False, "none", "2.1.0")
    health = health_of({"one": out, "two": LIMITED, "three": replace(LIMITED, resets_at=100.0)})
    assert (health.serving, health.resets_at) == (False, 100.0)
