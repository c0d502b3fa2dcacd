"""What would break a client that was made from an older description of the API.

Pure, over descriptors. The rules are those that keep the wire, the JSON form and the source code
of clients alike: what was there stays, under its name, its number and its type. What is taken out
after all leaves its name and number `reserved`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

GENERATED = frozenset(
    {
        "csharp_namespace",
        "go_package",
        "java_multiple_files",
        "java_outer_classname",
        "java_package",
        "objc_class_prefix",
        "php_class_prefix",
        "php_metadata_namespace",
        "php_namespace",
        "ruby_package",
        "swift_prefix",
    }
)
"""Options of a file that name what is generated from it."""


class _Range(Protocol):
    start: int
    end: int


@dataclass(frozen=True)
class Api:
    """All that a set of files describes, by full names."""

    messages: dict[str, DescriptorProto]
    enums: dict[str, EnumDescriptorProto]
    services: dict[str, ServiceDescriptorProto]

    @classmethod
    def of(cls, files: FileDescriptorSet) -> Api:
        api = cls({}, {}, {})
        for file in files.file:
            api._add(file.package, file.message_type, file.enum_type)
            for service in file.service:
                api.services[f"{file.package}.{service.name}"] = service
        return api

    def _add(
        self,
        scope: str,
        messages: Iterable[DescriptorProto],
        enums: Iterable[EnumDescriptorProto],
    ) -> None:
        for enum in enums:
            self.enums[f"{scope}.{enum.name}"] = enum
        for message in messages:
            name = f"{scope}.{message.name}"
            self.messages[name] = message
            self._add(name, message.nested_type, message.enum_type)


def breaks(old: FileDescriptorSet, new: FileDescriptorSet) -> Iterator[str]:
    """Yield each thing in `new` that breaks a client of `old`."""
    yield from _files(old, new)
    before, after = Api.of(old), Api.of(new)
    for name, message in before.messages.items():
        if name in after.messages:
            yield from _message(name, message, after.messages[name])
        else:
            yield f"{name}: the message is gone"
    for name, enum in before.enums.items():
        if name in after.enums:
            yield from _enum(name, enum, after.enums[name])
        else:
            yield f"{name}: the enum is gone"
    for name, service in before.services.items():
        if name in after.services:
            yield from _service(name, service, after.services[name])
        else:
            yield f"{name}: the service is gone"


def _files(old: FileDescriptorSet, new: FileDescriptorSet) -> Iterator[str]:
    """The files, which clients import, and the options that name what is generated from them."""
    files = {file.name: file for file in new.file}
    for before in old.file:
        after = files.get(before.name)
        if after is None:
            yield f"{before.name}: the file is gone"
            continue
        for option in sorted(GENERATED):
            # One that was not set had a default, which generators do not agree on.
            if getattr(before.options, option) != getattr(after.options, option):
                yield f"{before.name}: the option {option} is another"
        now = _defined(after)
        for name in _defined(before):
            if name not in now:
                yield f"{before.name}: {name} is no longer in it"


def _defined(file: FileDescriptorProto) -> list[str]:
    names = [message.name for message in file.message_type]
    names += [enum.name for enum in file.enum_type]
    return [*names, *(service.name for service in file.service)]


def _message(scope: str, old: DescriptorProto, new: DescriptorProto) -> Iterator[str]:
    fields = {field.number: field for field in new.field}
    for before in old.field:
        name = f"{scope}.{before.name}"
        after = fields.get(before.number)
        if after is None:
            if before.name not in new.reserved_name or not _within(
                before.number, new.reserved_range, inclusive=False
            ):
                yield f"{name}: field {before.number} is gone, and not reserved"
        else:
            yield from _field(name, before, after, _oneof(old, before), _oneof(new, after))
    yield from _unreserved(scope, old, new)


def _field(
    name: str, old: FieldDescriptorProto, new: FieldDescriptorProto, within: str, now_within: str
) -> Iterator[str]:
    if old.name != new.name:
        yield f"{name}: field {old.number} is called {new.name} now"
    if (old.type, old.type_name) != (new.type, new.type_name):
        yield f"{name}: the type is another"
    if old.label != new.label:
        yield f"{name}: it is repeated now, or no longer"
    if old.proto3_optional != new.proto3_optional:
        yield f"{name}: it is optional now, or no longer"
    if within != now_within:
        yield f"{name}: it is in the oneof {now_within or 'none'}, and was in {within or 'none'}"


def _oneof(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    if field.HasField("oneof_index") and not field.proto3_optional:
        return message.oneof_decl[field.oneof_index].name
    return ""


def _enum(scope: str, old: EnumDescriptorProto, new: EnumDescriptorProto) -> Iterator[str]:
    values = {value.number: value.name for value in new.value}
    for before in old.value:
        name = f"{scope}.{before.name}"
        after = values.get(before.number)
        if after is None:
            if before.name not in new.reserved_name or not _within(
                before.number, new.reserved_range, inclusive=True
            ):
                yield f"{name}: value {before.number} is gone, and not reserved"
        elif after != before.name:
            yield f"{name}: value {before.number} is called {after} now"
    yield from _unreserved(scope, old, new)


def _unreserved(
    scope: str,
    old: DescriptorProto | EnumDescriptorProto,
    new: DescriptorProto | EnumDescriptorProto,
) -> Iterator[str]:
    for name in old.reserved_name:
        if name not in new.reserved_name:
            yield f"{scope}: the name {name} is no longer reserved"
    inclusive = isinstance(new, EnumDescriptorProto)
    for span in old.reserved_range:
        for number in (span.start, span.end if inclusive else span.end - 1):
            if not _within(number, new.reserved_range, inclusive=inclusive):
                yield f"{scope}: the number {number} is no longer reserved"


def _within(number: int, ranges: Iterable[_Range], *, inclusive: bool) -> bool:
    # Descriptors write the end of a range of an enum as the last in it, of a message as the next.
    return any(span.start <= number < span.end + inclusive for span in ranges)


def _service(scope: str, old: ServiceDescriptorProto, new: ServiceDescriptorProto) -> Iterator[str]:
    methods = {method.name: method for method in new.method}
    for before in old.method:
        name = f"{scope}.{before.name}"
        if before.name in methods:
            yield from _method(name, before, methods[before.name])
        else:
            yield f"{name}: the rpc is gone"


def _method(name: str, old: MethodDescriptorProto, new: MethodDescriptorProto) -> Iterator[str]:
    if old.input_type != new.input_type:
        yield f"{name}: it takes another message"
    if old.output_type != new.output_type:
        yield f"{name}: it gives another message"
    if old.client_streaming != new.client_streaming:
        yield f"{name}: what it takes is a stream now, or no longer"
    if old.server_streaming != new.server_streaming:
        yield f"{name}: what it gives is a stream now, or no longer"
