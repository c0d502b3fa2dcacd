"""One request through the pool: admission, plan, time limits, attempts, answer."""

from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.engine.timeouts import Deadlines

__all__ = ["Deadlines", "Engine", "EngineOptions"]
