"""The scenarios by name, in running order."""

from benchmarks.scenarios.all_new import AllNew
from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.burst import Burst
from benchmarks.scenarios.cache import Cache
from benchmarks.scenarios.cancel import Cancel
from benchmarks.scenarios.ceiling import Ceiling
from benchmarks.scenarios.continued import Continued
from benchmarks.scenarios.cpu import Cpu
from benchmarks.scenarios.endurance import Endurance
from benchmarks.scenarios.node import Node
from benchmarks.scenarios.payers import PayerChoice
from benchmarks.scenarios.start import Start
from benchmarks.scenarios.throughput import Throughput
from benchmarks.scenarios.tools import Tools
from benchmarks.scenarios.unseen import Unseen
from benchmarks.scenarios.warm import Warm

__all__ = ["QUICK", "SCENARIOS", "Scenario"]

# Scenarios that use a bridge with the same settings are adjacent.
_ALL: tuple[Scenario, ...] = (
    Warm(),
    Continued(),
    Tools(),
    Cpu(),
    AllNew(),
    Cache(),
    Unseen(),
    Burst(),
    Endurance(),
    Cancel(),
    Throughput(),
    Ceiling(),
    Node(),
    PayerChoice(),
    Start(),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}

QUICK = ("warm", "continued", "tools", "cpu", "all_new", "cancel", "throughput")
"""The scenarios of --quick."""
