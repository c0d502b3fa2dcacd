"""The JSON schemas of the models of requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge.http_server.openapi import REF


def json_schemas_of(*requests: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas of bodies and of the objects in them, by name."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in requests], ref_template=REF
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas
