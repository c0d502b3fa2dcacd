"""Decisions about a request before it gets a session."""

from bridge.core.engine.planning.field_names import errors_named_for
from bridge.core.engine.planning.models import Catalog, ModelNames
from bridge.core.engine.planning.plan import Plan
from bridge.core.engine.planning.planner import Planner, tools_of

__all__ = ["Catalog", "ModelNames", "Plan", "Planner", "errors_named_for", "tools_of"]
