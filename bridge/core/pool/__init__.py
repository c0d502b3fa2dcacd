"""The pool of CLI processes: assigns them to requests, starts and ends them."""

from bridge.core.pool.budget import Budget
from bridge.core.pool.leases import Bill, Lease, Need, Parking
from bridge.core.pool.policy import PoolLimits
from bridge.core.pool.pool import Pool
from bridge.core.pool.recycling import Recycling
from bridge.core.pool.watchdog import Watchdog, WatchdogLimits

__all__ = [
    "Bill",
    "Budget",
    "Lease",
    "Need",
    "Parking",
    "Pool",
    "PoolLimits",
    "Recycling",
    "Watchdog",
    "WatchdogLimits",
]
