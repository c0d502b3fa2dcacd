"""JSON schemas: what structured outputs refuse, and the smallest valid value. Pure."""

from collections.abc import Mapping
from typing import Any

# Deeper than any reasonable schema, so that a recursive one terminates.
_DEPTH = 24
_FORMATS = {
    "date-time": "2025-01-01T00:00:00Z",
    "date": "2025-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


# https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
_UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}
_UNSUPPORTED_ANYWHERE = ("oneOf", "not", "if", "then", "else", "dependentSchemas")


def refusal(schema: Mapping[str, Any]) -> str | None:
    """Return what structured outputs refuse in a schema, or None. The wordings were seen.

    `oneOf`, `not` and conditionals are in neither of the page's lists: assumed to be unsupported.
    """
    return _refusal(schema, schema, ())


def _refusal(schema: object, root: Mapping[str, Any], above: tuple[str, ...]) -> str | None:
    if not isinstance(schema, Mapping):
        return None
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if not reference.startswith("#"):
            return f"External $ref '{reference}' is not supported"
        if reference in above:
            return "Too many recursive definitions in schema"
        return _refusal(_resolve(reference, root), root, (*above, reference))
    if (message := _refused_keyword(schema)) is not None:
        return message
    inner = [
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", []),
        *schema.get("allOf", []),
        schema.get("items"),
    ]
    found = (_refusal(part, root, above) for part in inner)
    return next((message for message in found if message is not None), None)


def _refused_keyword(schema: Mapping[str, Any]) -> str | None:
    for kind, keywords in _UNSUPPORTED.items():
        for keyword in keywords:
            if keyword in schema:
                return f"For '{kind}' type, property '{keyword}' is not supported"
    for keyword in _UNSUPPORTED_ANYWHERE:
        if keyword in schema:
            return f"Schema keyword '{keyword}' is not supported"
    if schema.get("minItems", 0) not in (0, 1):
        return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    if any(isinstance(value, dict | list) for value in schema.get("enum", [])):
        return "Enum values must be strings, numbers, bools or nulls"
    if any("$ref" in part for part in schema.get("allOf", [])):
        return "allOf with $ref is not supported"
    return _open_object(schema)


def _open_object(schema: Mapping[str, Any]) -> str | None:
    is_object = schema.get("type") == "object" or "properties" in schema
    if is_object and schema.get("additionalProperties") is not False:
        if "additionalProperties" not in schema:
            return "For 'object' type, 'additionalProperties' must be explicitly set to false"
        return (
            f"For 'object' type, 'additionalProperties: {schema['additionalProperties']}' is not "
            "supported. Please set 'additionalProperties' to false"
        )
    return None


def minimal(schema: object, root: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """Return a minimal instance of `schema`; its `$ref`s refer to `root`."""
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return {} if schema is True and depth == 0 else None
    root = schema if root is None else root
    for decided in ("const", "default"):
        if decided in schema:
            return schema[decided]
    if schema.get("enum"):
        return schema["enum"][0]
    if isinstance(schema.get("$ref"), str):
        return minimal(_resolve(schema["$ref"], root), root, depth + 1)
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            # The shallowest branch terminates a recursive schema.
            branches = sorted(schema[choice], key=lambda branch: "$ref" in branch)
            return minimal(branches[0], root, depth + 1)
    if schema.get("allOf"):
        return minimal(_merged(schema, root), root, depth + 1)
    return _of_type(schema, root, depth)


def _merged(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
    for part in schema["allOf"]:
        part = _resolve(part["$ref"], root) if "$ref" in part else part
        for key, value in part.items():
            known = merged.get(key)
            if key == "properties":
                value = {**(known or {}), **value}
            elif key == "required":
                value = [*(known or []), *value]
            merged[key] = value
    return merged


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema or depth == 0 else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {
            name: minimal(properties.get(name, {"type": "string"}), root, depth + 1)
            for name in schema.get("required", [])
        }
    if kind == "array":
        return [minimal(schema.get("items", {}), root, depth + 1)] * schema.get("minItems", 0)
    if kind == "string":
        return _FORMATS.get(str(schema.get("format")), "x" * max(1, schema.get("minLength", 1)))
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    return False if kind == "boolean" else None


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    target: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part and isinstance(target, Mapping):
            target = target.get(part.replace("~1", "/").replace("~0", "~"))
    return target
