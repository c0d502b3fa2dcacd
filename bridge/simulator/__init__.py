"""A small, strict, scripted Anthropic Messages API on loopback, for the real CLI to talk to."""

from bridge.simulator.ledger import Exchange
from bridge.simulator.server import Simulator

__all__ = ["Exchange", "Simulator"]
