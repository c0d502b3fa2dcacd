"""The maximum sizes of a request, checked for every API. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

from bridge.core.contract import (
    BOUNDS,
    Bounds,
    CompletionRequest,
    DocumentPart,
    FieldNames,
    ImagePart,
    InlineData,
    InvalidRequestError,
    JsonObject,
    Message,
    Part,
    Place,
    SearchResultPart,
    TextPart,
    ThinkingPart,
    TooLargeError,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.validation.images import size_of
from bridge.core.validation.schema_sizes import SchemaSize, expanded, measure
from bridge.core.validation.strict_json import NotJsonError, TooNestedError, parse_strict


def check_sizes(request: CompletionRequest, bounds: Bounds = BOUNDS) -> None:
    """Raise for the first part of a request that exceeds its bound.

    Raises TooLargeError for a size, InvalidRequestError for a count, a length or a depth. Both
    report the field and the bound.
    """
    names = request.field_names
    if len(request.model or "") > bounds.name_characters:
        _too_long("The name of the model", bounds.name_characters, names(Place("model")))
    if len(request.system or "") > bounds.system_characters:
        _too_large("The system prompt", bounds.system_characters, names(Place("system")))
    if (request.max_output_tokens or 0) > bounds.output_tokens:
        raise InvalidRequestError(
            f"The answer may be limited to at most {bounds.output_tokens} tokens.",
            field=names(Place("max_output_tokens")),
        )
    for text in request.sampling.stop:
        if len(text) > bounds.stop_characters:
            _too_long("A stop sequence", bounds.stop_characters, names(Place("sampling.stop")))
    _check_labels(request.labels, names(Place("labels")), bounds)
    _check_tools(request, bounds)
    _check_output(request, bounds)
    _check_messages(request.messages, names, bounds)


def check_count(things: str, count: int, bound: int, field: str) -> None:
    """Raise InvalidRequestError for too many items; a front end calls this before decoding them."""
    if count > bound:
        raise InvalidRequestError(
            f"A request may have at most {bound} {things}.",
            field=field,
            reason="ARRAY_ABOVE_MAX_LENGTH",
        )


def json_object(text: str, field: str, bounds: Bounds = BOUNDS) -> JsonObject:
    """Parse the JSON text of an object in the field of this name.

    Raises InvalidRequestError.
    """
    try:
        value = parse_strict(text, levels=bounds.json_levels)
    except TooNestedError:
        _too_deep(f"'{field}'", bounds.json_levels, field)
    except NotJsonError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequestError(f"'{field}' must be the JSON text of an object.", field=field)
    return value


def _check_labels(labels: Mapping[str, str], field: str, bounds: Bounds) -> None:
    check_count("labels", len(labels), bounds.labels, field)
    for name, value in labels.items():
        if len(name) > bounds.label_name_characters:
            _too_long("The name of a label", bounds.label_name_characters, field)
        if len(value) > bounds.label_value_characters:
            _too_long("The value of a label", bounds.label_value_characters, f"{field}.{name}")


def _check_tools(request: CompletionRequest, bounds: Bounds) -> None:
    field = request.field_names(Place("tools"))
    check_count("tools", len(request.tools), bounds.tools, field)
    size = subschemas = 0
    for tool in request.tools:
        what = f"The parameters of the tool '{tool.name[:64]}'"
        schema = _check_schema(tool.parameters, what, field, bounds)
        size += len(tool.name) + len(tool.description) + schema.json_characters
        subschemas += schema.subschemas
        if size > bounds.tools_characters:
            _too_large("All tools together", bounds.tools_characters, field)
        if subschemas > bounds.tools_subschemas:
            _too_complex("All tools together", bounds.tools_subschemas, "subschemas", field)


def _check_output(request: CompletionRequest, bounds: Bounds) -> None:
    output, field = request.output_format, request.field_names(Place("output_format"))
    if len(output.name) > bounds.name_characters:
        _too_long("The name of the output format", bounds.name_characters, field)
    if output.schema is not None:
        _check_schema(output.schema, "The schema of the answer", field, bounds)


def _check_schema(schema: JsonObject, what: str, field: str, bounds: Bounds) -> SchemaSize:
    size = measure(schema, levels=bounds.schema_levels, values=bounds.schema_values)
    if size.levels > bounds.schema_levels:
        _too_deep(what, bounds.schema_levels, field)
    for count, bound, things in (
        (size.values, bounds.schema_values, "values"),
        (size.subschemas, bounds.schema_subschemas, "subschemas"),
        (size.references, bounds.schema_references, "references"),
    ):
        if count > bound:
            _too_complex(what, bound, things, field)
    if size.longest_pattern > bounds.schema_pattern_characters:
        _too_long(f"A pattern in {_lower(what)}", bounds.schema_pattern_characters, field)
    if size.characters <= bounds.schema_characters:
        # Only once its size is known to be reasonable.
        size.json_characters = len(json.dumps(schema))
    if max(size.characters, size.json_characters) > bounds.schema_characters:
        _too_large(what, bounds.schema_characters, field)
    if size.longest_text > bounds.schema_text_characters:
        _too_long(f"A text in {_lower(what)}", bounds.schema_text_characters, field)
    if size.references and expanded(schema, bounds.schema_expanded) > bounds.schema_expanded:
        _too_complex(what, bounds.schema_expanded, "subschemas with its references followed", field)
    return size


def _lower(what: str) -> str:
    return what[0].lower() + what[1:]


def _check_messages(messages: tuple[Message, ...], names: FieldNames, bounds: Bounds) -> None:
    whole = names(Place("messages"))
    check_count("messages", len(messages), bounds.messages, whole)
    images = documents = all_parts = 0
    for index, message in enumerate(messages):
        field = names(Place(f"messages[{index}]", message.origin))
        parts = 0
        for part in message.with_inner_parts():
            parts += 1
            _check_part(part, field, bounds)
            images += isinstance(part, ImagePart)
            documents += isinstance(part, DocumentPart)
        all_parts += parts
        check_count("parts in one message", parts, bounds.parts, field)
        check_count("parts in all messages", all_parts, bounds.all_parts, whole)
        check_count("images", images, bounds.images, field)
        check_count("documents", documents, bounds.documents, field)


def _check_part(part: Part, field: str, bounds: Bounds) -> None:
    match part:
        case TextPart() | ThinkingPart():
            pass
        case ImagePart(source=InlineData(base64=data)):
            if len(data) > bounds.image_characters:
                _too_large("An image in base64", bounds.image_characters, field)
            width, height = size_of(data) or (0, 0)
            if width * height > bounds.image_pixels:
                _too_large("An image", bounds.image_pixels, field, "pixels")
        case DocumentPart(source=source):
            if isinstance(source, InlineData) and len(source.base64) > bounds.document_characters:
                _too_large("A document in base64", bounds.document_characters, field)
            _check_title("The name of a document", part.title or "", field, bounds)
        case SearchResultPart():
            _check_title("The title of a search result", part.title, field, bounds)
        case ToolCallPart(id=call_id, name=name):
            if len(name) > bounds.name_characters:
                _too_long("The name of a tool", bounds.name_characters, field)
            _check_id(call_id, field, bounds)
        case ToolResultPart(call_id=call_id):
            _check_id(call_id, field, bounds)
        case ImagePart():
            pass


def _check_title(what: str, title: str, field: str, bounds: Bounds) -> None:
    if len(title) > bounds.title_characters:
        _too_long(what, bounds.title_characters, field)


def _check_id(call_id: str, field: str, bounds: Bounds) -> None:
    if len(call_id) > bounds.id_characters:
        _too_long("The id of a tool call", bounds.id_characters, field)


def _too_long(what: str, bound: int, field: str) -> NoReturn:
    raise InvalidRequestError(
        f"{what} may have at most {bound} characters.",
        field=field,
        reason="STRING_ABOVE_MAX_LENGTH",
    )


def _too_deep(what: str, bound: int, field: str) -> NoReturn:
    raise InvalidRequestError(
        f"{what} may have at most {bound} levels of arrays and objects.",
        field=field,
        reason="NESTED_TOO_DEEPLY",
    )


def _too_complex(what: str, bound: int, things: str, field: str) -> NoReturn:
    raise InvalidRequestError(
        f"{what} may have at most {bound} {things}. Simplify or split it.",
        field=field,
        reason="SCHEMA_TOO_COMPLEX",
    )


def _too_large(what: str, bound: int, field: str, unit: str = "characters") -> NoReturn:
    raise TooLargeError(f"{what} may have at most {bound} {unit}.", field=field)
