"""One request through the pool: admission, plan, time limits, attempts, answer."""

from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.engine.planning import ModelNames
from bridge.core.engine.requests import Answerer, Answering, Requests
from bridge.core.engine.timeouts import TimeLimits

__all__ = [
    "Answerer",
    "Answering",
    "Engine",
    "EngineOptions",
    "ModelNames",
    "Requests",
    "TimeLimits",
]
