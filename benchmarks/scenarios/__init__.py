"""The scenarios, by name, in the order in which they run."""

from benchmarks.scenarios.all_new import AllNew
from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.cache import Cache
from benchmarks.scenarios.cancel import Cancel
from benchmarks.scenarios.continued import Continued
from benchmarks.scenarios.cpu import Cpu
from benchmarks.scenarios.throughput import Throughput
from benchmarks.scenarios.unseen import Unseen
from benchmarks.scenarios.warm import Warm

__all__ = ["SCENARIOS", "Scenario"]

# Those that use a bridge of the same settings stand together.
_ALL: tuple[Scenario, ...] = (
    Warm(),
    Continued(),
    Cpu(),
    AllNew(),
    Cache(),
    Unseen(),
    Cancel(),
    Throughput(),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}
