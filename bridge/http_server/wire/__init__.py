"""Reading a request's JSON, for every dialect: models, what becomes of each field, errors."""

from bridge.http_server.wire.costs import cost_object
from bridge.http_server.wire.media import checked_base64
from bridge.http_server.wire.model import (
    UNSERVED,
    JsonInt,
    Said,
    TokenLimit,
    TopP,
    WireModel,
    needing,
)
from bridge.http_server.wire.names import names_by
from bridge.http_server.wire.parameters import (
    NAMED,
    REFUSED,
    SILENT,
    Ignored,
    Treatment,
    apply_rules,
    named_unless,
    refused_unless,
    rules_of,
)
from bridge.http_server.wire.problems import expectation, parse
from bridge.http_server.wire.schemas import json_schemas_of
from bridge.http_server.wire.turns import Turns, is_json_object

__all__ = [
    "NAMED",
    "REFUSED",
    "SILENT",
    "UNSERVED",
    "Ignored",
    "JsonInt",
    "Said",
    "TokenLimit",
    "TopP",
    "Treatment",
    "Turns",
    "WireModel",
    "apply_rules",
    "checked_base64",
    "cost_object",
    "expectation",
    "is_json_object",
    "json_schemas_of",
    "named_unless",
    "names_by",
    "needing",
    "parse",
    "refused_unless",
    "rules_of",
]
