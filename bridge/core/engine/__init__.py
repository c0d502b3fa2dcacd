"""One request through the pool: admission, plan, time limits, attempts, answer."""

from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.engine.planning import ModelNames
from bridge.core.engine.timeouts import TimeLimits
from bridge.core.engine.usage_limits import AtLimit

__all__ = [
    "AtLimit",
    "Engine",
    "EngineOptions",
    "ModelNames",
    "TimeLimits",
]
