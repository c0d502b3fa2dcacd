"""Clients of the released API keep working. The check needs no other program."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.support.grpc.compatibility import breaks
from tests.support.grpc.described import PROTO, described
from tests.support.grpc.update_descriptor import released, update

OLD = """
syntax = "proto3";
package t;
option go_package = "t/v1;tv1";
option java_multiple_files = true;
service S {
  rpc Ask(Question) returns (stream Answer);
}
message Question {
  reserved 8 to 9;
  reserved "ancient";
  string text = 1;
  optional int32 limit = 2;
  Kind kind = 3;
  oneof source {
    string url = 4;
    bytes data = 5;
  }
  repeated string tags = 6;
  map<string, int32> counts = 7;
  message Inner {
    bool flag = 1;
  }
}
enum Kind {
  KIND_UNSPECIFIED = 0;
  KIND_SMALL = 1;
  KIND_LARGE = 2;
}
message Answer {
  string text = 1;
}
"""


def compiled(folder: Path, source: str) -> FileDescriptorSet:
    folder.mkdir(exist_ok=True)
    (folder / "t.proto").write_text(source)
    return described(folder)


def changed(tmp_path: Path, *changes: tuple[str, str]) -> list[str]:
    """What breaks when the old file is changed so."""
    source = OLD
    for was, becomes in changes:
        assert source.count(was) == 1, was
        source = source.replace(was, becomes)
    old = compiled(tmp_path / "old", OLD)
    return list(breaks(old, compiled(tmp_path / "new", source)))


def test_the_api_breaks_no_client_of_the_released_one() -> None:
    """If this fails on purpose, a new package (bridge.v2) is what clients need."""
    assert list(breaks(released(), described(PROTO))) == []


@pytest.mark.parametrize(
    ("was", "becomes", "fault"),
    [
        ("string text = 1;\n  optional", "optional", "t.Question.text: field 1 is gone, and not"),
        ("int32 limit = 2", "int32 limit = 20", "t.Question.limit: field 2 is gone, and not"),
        ("int32 limit", "int32 most", "t.Question.limit: field 2 is called most now"),
        ("optional int32", "optional int64", "t.Question.limit: the type is another"),
        ("optional int32", "int32", "t.Question.limit: it is optional now, or no longer"),
        ("Kind kind = 3", "Answer kind = 3", "t.Question.kind: the type is another"),
        ("repeated string", "string", "t.Question.tags: it is repeated now, or no longer"),
        ("map<string, int32>", "map<string, string>", "t.Question.CountsEntry.value: the type"),
        (
            "string url = 4;\n    bytes data = 5;\n  }",
            "bytes data = 5;\n  }\n  string url = 4;",
            "t.Question.url: it is in the oneof none, and was in source",
        ),
        ("oneof source", "oneof origin", "t.Question.data: it is in the oneof origin, and was"),
        ("reserved 8 to 9", "reserved 8", "t.Question: the number 9 is no longer reserved"),
        ('reserved "ancient";', "", "t.Question: the name ancient is no longer reserved"),
        ("bool flag = 1;", "", "t.Question.Inner.flag: field 1 is gone, and not reserved"),
        ("message Inner", "message Core", "t.Question.Inner: the message is gone"),
        ("  KIND_LARGE = 2;\n", "", "t.Kind.KIND_LARGE: value 2 is gone, and not reserved"),
        ("KIND_LARGE = 2", "KIND_LARGE = 3", "t.Kind.KIND_LARGE: value 2 is gone, and not"),
        ("KIND_LARGE", "KIND_BIG", "t.Kind.KIND_LARGE: value 2 is called KIND_BIG now"),
        ("t/v1;tv1", "t/v1;other", "t.proto: the option go_package is another"),
        ("option java_multiple_files = true;", "", "t.proto: the option java_multiple_files is"),
        ("option java", 'option java_package = "t";\noption java', "t.proto: the option java_p"),
        ("service S", "service T", "t.proto: S is no longer in it"),
        ("service S", "service T", "t.S: the service is gone"),
        ("rpc Ask", "rpc Put", "t.S.Ask: the rpc is gone"),
        ("(Question)", "(Answer)", "t.S.Ask: it takes another message"),
        ("stream Answer", "stream Question", "t.S.Ask: it gives another message"),
        ("stream Answer", "Answer", "t.S.Ask: what it gives is a stream now, or no longer"),
        ("(Question)", "(stream Question)", "t.S.Ask: what it takes is a stream now, or no longer"),
    ],
)
def test_a_break_is_found(tmp_path: Path, was: str, becomes: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in changed(tmp_path, (was, becomes)))


def test_an_enum_that_is_gone_is_found(tmp_path: Path) -> None:
    faults = changed(tmp_path, ("enum Kind", "enum Sort"), ("Kind kind", "Sort kind"))
    assert "t.Kind: the enum is gone" in faults


def test_a_file_that_is_gone_is_found(tmp_path: Path) -> None:
    old, new = compiled(tmp_path / "old", OLD), compiled(tmp_path / "new", OLD)
    new.file[0].name = "u.proto"
    assert list(breaks(old, new)) == ["t.proto: the file is gone"]


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("string text = 1;\n  optional", 'reserved 1;\n  reserved "text";\n  optional'),
        ("  KIND_LARGE = 2;\n", '  reserved 2;\n  reserved "KIND_LARGE";\n'),
        ("string text = 1;\n  optional", "string text = 1;\n  string more = 10;\n  optional"),
        ("  KIND_LARGE = 2;\n", "  KIND_LARGE = 2;\n  KIND_HUGE = 3;\n"),
        ("    bytes data = 5;\n", "    bytes data = 5;\n    string path = 11;\n"),
        ("service S {", "service S {\n  rpc Put(Answer) returns (Question);"),
        ("option java", "option optimize_for = CODE_SIZE;\noption java"),
        ("message Answer {", "message New {}\nmessage Answer {"),
        ("reserved 8 to 9", "reserved 8 to 12"),
    ],
    ids=[
        "a field that is reserved",
        "a value that is reserved",
        "a field more",
        "a value more",
        "a field more in a oneof",
        "an rpc more",
        "an option that names nothing",
        "a message more",
        "more reserved",
    ],
)
def test_what_clients_can_bear_is_no_break(tmp_path: Path, was: str, becomes: str) -> None:
    assert changed(tmp_path, (was, becomes)) == []


def test_a_break_is_stored_only_by_force(tmp_path: Path) -> None:
    stored = tmp_path / "descriptor.json"
    old, new = compiled(tmp_path / "old", OLD), compiled(tmp_path / "new", 'syntax = "proto3";')
    assert update(stored, old, force=False) == []
    assert released(stored) == old
    assert update(stored, new, force=False) != []
    assert released(stored) == old
    update(stored, new, force=True)
    assert released(stored) == new
