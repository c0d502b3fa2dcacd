from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]
from typer.testing import CliRunner, Result

from bridge.cli import app
from tests.support.grpc.described import PROTO, described
from tests.support.paths import ROOT


def protos(folder: Path) -> Result:
    return CliRunner().invoke(app, ("protos", str(folder)))


def test_stubs_can_be_generated_from_what_is_written(tmp_path: Path) -> None:
    folder, out = tmp_path / "new" / "protos", tmp_path / "out"
    result = protos(folder)
    assert result.exit_code == 0
    written = {path for path in folder.rglob("*") if path.is_file()}
    assert {Path(line) for line in result.stdout.splitlines()} == written
    # What it imports from google/protobuf is inside every compiler, as here.
    inside = Path(protoc.__file__).parent / "_proto"
    assert {path.relative_to(folder).parts[:2] for path in written} == {
        ("bridge", "v1"),
        ("google", "api"),
        ("google", "rpc"),
        ("bridge.binpb",),
    }
    out.mkdir()
    names = [str(path) for path in written if path.suffix == ".proto"]
    command = ["protoc", f"-I{folder}", f"-I{inside}", f"--python_out={out}", *names]
    assert protoc.main(command) == 0
    for source in (ROOT / "proto" / "bridge" / "v1").glob("*.proto"):
        assert (folder / "bridge" / "v1" / source.name).read_bytes() == source.read_bytes()
        assert (out / "bridge" / "v1" / f"{source.stem}_pb2.py").is_file()


def test_the_descriptor_has_everything_that_the_services_need(tmp_path: Path) -> None:
    assert protos(tmp_path).exit_code == 0
    found = FileDescriptorSet.FromString((tmp_path / "bridge.binpb").read_bytes())
    files = {file.name: file for file in found.file}
    for file in files.values():
        assert set(file.dependency) <= files.keys()
    for file in described(PROTO).file:
        assert files[file.name] == file


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    result = protos(taken)
    assert result.exit_code == 1
    assert str(taken) in result.stderr
