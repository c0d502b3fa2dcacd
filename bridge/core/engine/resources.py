"""What all completions of one engine share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.core.access import Quotas
from bridge.core.engine.health import AccountState
from bridge.core.engine.parking_policy import ParkingPolicy
from bridge.core.engine.planning import Planner
from bridge.core.engine.schema_checker import SchemaChecker
from bridge.core.engine.timeouts import TimeLimits
from bridge.core.engine.usage_limits import UsageLimitsState
from bridge.core.pool import Pool


@dataclass(frozen=True, slots=True)
class Resources:
    """What all completions of one engine share."""

    pool: Pool
    planner: Planner
    schemas: SchemaChecker
    account: AccountState
    usage_limits: UsageLimitsState
    parking_policy: ParkingPolicy
    quotas: Quotas
    time_limits: TimeLimits
    clock: Callable[[], float]

    def works(self) -> None:
        """Record that the API answers: the login works, and no limit is reached."""
        self.account.login_works()
        self.usage_limits.works()
