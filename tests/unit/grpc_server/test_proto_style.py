"""The proto files keep buf's STANDARD rules, and every element of them has its comment.

The rules are checked here over the descriptors, so that no other program is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
)

from tests.support.grpc.described import PROTO, described

PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")
LOWER_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
PACKAGE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?")

# Numbers of the fields of the descriptors, which is what a comment's path is made of.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
NESTED, NESTED_ENUMS, FIELDS, VALUES, METHODS = 3, 4, 2, 2, 2

PathTo = tuple[int, ...]


def files_in(root: Path) -> list[FileDescriptorProto]:
    return list(described(root, "--include_source_info").file)


def upper_snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).upper()


def faults(file: FileDescriptorProto) -> Iterator[str]:
    """Name each place that breaks a rule, by buf's name of the rule."""
    if file.syntax not in ("proto3", "editions"):
        yield f"SYNTAX_SPECIFIED {file.name}"
    if not PACKAGE.fullmatch(file.package):
        yield f"PACKAGE_VERSION_SUFFIX {file.package}"
    if file.package.replace(".", "/") != str(Path(file.name).parent):
        yield f"PACKAGE_DIRECTORY_MATCH {file.package}"
    if not LOWER_SNAKE.fullmatch(Path(file.name).stem):
        yield f"FILE_LOWER_SNAKE_CASE {file.name}"
    comments = {
        tuple(place.path): place.leading_comments.strip()
        for place in file.source_code_info.location
    }
    for index, message in enumerate(file.message_type):
        yield from message_faults(message, (MESSAGES, index), comments)
    for index, enum in enumerate(file.enum_type):
        yield from enum_faults(enum, (ENUMS, index), comments)
    yield from service_faults(file, comments)


def uncommented(name: str, path: PathTo, comments: dict[PathTo, str]) -> Iterator[str]:
    if not comments.get(path):
        yield f"COMMENT {name}"


def message_faults(
    message: DescriptorProto, path: PathTo, comments: dict[PathTo, str]
) -> Iterator[str]:
    if not PASCAL.fullmatch(message.name):
        yield f"MESSAGE_PASCAL_CASE {message.name}"
    yield from uncommented(message.name, path, comments)
    for index, field in enumerate(message.field):
        name = f"{message.name}.{field.name}"
        if not LOWER_SNAKE.fullmatch(field.name):
            yield f"FIELD_LOWER_SNAKE_CASE {name}"
        yield from uncommented(name, (*path, FIELDS, index), comments)
    for oneof in message.oneof_decl:
        # That of an `optional` field is made by the compiler, and begins with an underscore.
        if not LOWER_SNAKE.fullmatch(oneof.name.removeprefix("_")):
            yield f"ONEOF_LOWER_SNAKE_CASE {message.name}.{oneof.name}"
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from message_faults(nested, (*path, NESTED, index), comments)
    for index, enum in enumerate(message.enum_type):
        yield from enum_faults(enum, (*path, NESTED_ENUMS, index), comments)


def enum_faults(
    enum: EnumDescriptorProto, path: PathTo, comments: dict[PathTo, str]
) -> Iterator[str]:
    if not PASCAL.fullmatch(enum.name):
        yield f"ENUM_PASCAL_CASE {enum.name}"
    if enum.options.allow_alias:
        yield f"ENUM_NO_ALLOW_ALIAS {enum.name}"
    if enum.value[0].number != 0:
        yield f"ENUM_FIRST_VALUE_ZERO {enum.name}"
    yield from uncommented(enum.name, path, comments)
    for index, value in enumerate(enum.value):
        if not UPPER_SNAKE.fullmatch(value.name):
            yield f"ENUM_VALUE_UPPER_SNAKE_CASE {value.name}"
        if not value.name.startswith(f"{upper_snake(enum.name)}_"):
            yield f"ENUM_VALUE_PREFIX {value.name}"
        if value.number == 0 and not value.name.endswith("_UNSPECIFIED"):
            yield f"ENUM_ZERO_VALUE_SUFFIX {value.name}"
        yield from uncommented(value.name, (*path, VALUES, index), comments)


def service_faults(file: FileDescriptorProto, comments: dict[PathTo, str]) -> Iterator[str]:
    for index, service in enumerate(file.service):
        if not PASCAL.fullmatch(service.name):
            yield f"SERVICE_PASCAL_CASE {service.name}"
        if not service.name.endswith("Service"):
            yield f"SERVICE_SUFFIX {service.name}"
        yield from uncommented(service.name, (SERVICES, index), comments)
        for number, method in enumerate(service.method):
            name = f"{service.name}.{method.name}"
            if not PASCAL.fullmatch(method.name):
                yield f"RPC_PASCAL_CASE {name}"
            if method.input_type.rpartition(".")[2] not in (
                f"{method.name}Request",
                f"{service.name}{method.name}Request",
            ):
                yield f"RPC_REQUEST_STANDARD_NAME {name}"
            if method.output_type.rpartition(".")[2] not in (
                f"{method.name}Response",
                f"{service.name}{method.name}Response",
            ):
                yield f"RPC_RESPONSE_STANDARD_NAME {name}"
            yield from uncommented(name, (SERVICES, index, METHODS, number), comments)


def shared_types(files: list[FileDescriptorProto]) -> Iterator[str]:
    """Name the messages that more than one RPC takes or gives."""
    seen: set[str] = set()
    for file in files:
        for service in file.service:
            for method in service.method:
                for name in (method.input_type, method.output_type):
                    if name in seen:
                        yield f"RPC_REQUEST_RESPONSE_UNIQUE {name}"
                    seen.add(name)


OPTIONS = (
    "csharp_namespace",
    "go_package",
    "java_multiple_files",
    "java_package",
    "php_namespace",
    "ruby_package",
)


def unlike_options(files: list[FileDescriptorProto]) -> Iterator[str]:
    """Name the options that are not set, or not alike in all files of the package."""
    for option in OPTIONS:
        if len({getattr(file.options, option) for file in files}) > 1:
            yield f"PACKAGE_SAME_{option.upper()}"
        for file in files:
            if not getattr(file.options, option):
                yield f"{option} {file.name}"


def test_the_files_say_what_is_generated_from_them() -> None:
    files = files_in(PROTO)
    assert list(unlike_options(files)) == []
    files[0].options.go_package = "other"
    files[0].options.ClearField("java_package")
    assert set(unlike_options(files)) == {
        "PACKAGE_SAME_GO_PACKAGE",
        "PACKAGE_SAME_JAVA_PACKAGE",
        f"java_package {files[0].name}",
    }


def test_the_files_keep_the_rules() -> None:
    files = files_in(PROTO)
    assert files
    assert [fault for file in files for fault in faults(file)] == []
    assert list(shared_types(files)) == []


BAD = """
syntax = "proto3";
package other.v1;
// A service.
service Thing {
  // Asks.
  rpc ask(Question) returns (Question);
}
message Question {
  // A field.
  string theText = 1;
  string text = 2;
  // A kind.
  enum Kind {
    // Nothing.
    KIND_NONE = 0;
    // Something.
    SOME = 1;
  }
}
"""


@pytest.mark.parametrize(
    "fault",
    [
        "PACKAGE_DIRECTORY_MATCH other.v1",
        "SERVICE_SUFFIX Thing",
        "RPC_PASCAL_CASE Thing.ask",
        "RPC_REQUEST_STANDARD_NAME Thing.ask",
        "RPC_RESPONSE_STANDARD_NAME Thing.ask",
        "RPC_REQUEST_RESPONSE_UNIQUE .other.v1.Question",
        "COMMENT Question",
        "COMMENT Question.text",
        "FIELD_LOWER_SNAKE_CASE Question.theText",
        "ENUM_ZERO_VALUE_SUFFIX KIND_NONE",
        "ENUM_VALUE_PREFIX SOME",
    ],
)
def test_a_breach_is_found(tmp_path: Path, fault: str) -> None:
    root = tmp_path / "proto"
    (root / "bridge" / "v1").mkdir(parents=True)
    (root / "bridge" / "v1" / "bad.proto").write_text(BAD)
    files = files_in(root)
    found = [*(fault for file in files for fault in faults(file)), *shared_types(files)]
    assert fault in found
