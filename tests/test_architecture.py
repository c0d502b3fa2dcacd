"""Who may import whom. Read from the source, so that imports inside functions count as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Rule:
    """A module in `where` and not in `besides` imports nothing in `never` that is not in `but`."""

    name: str
    where: str
    never: tuple[str, ...]
    besides: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    def forbids(self, module: str, imported: str) -> bool:
        return (
            _within(module, (self.where,))
            and not _within(module, self.besides)
            and _within(imported, self.never)
            and not _within(imported, self.but)
        )


CORE = Rule(
    "the core knows no protocol",
    where="bridge.core",
    never=(
        "bridge.grpc_server",
        "bridge.http_server",
        "bridge.simulator",
        "bridge.v1",
        "fastapi",
        "google.protobuf",
        "google.rpc",
        "grpc",
        "opentelemetry",
        "prometheus_client",
        "pydantic",
        "pydantic_settings",
        "starlette",
    ),
)
HTTP_DOOR = Rule(
    "the HTTP door knows nothing of the gRPC one",
    where="bridge.http_server",
    never=("bridge.grpc_server", "bridge.v1", "grpc"),
)
GRPC_DOOR = Rule(
    "the gRPC door knows nothing of the HTTP one",
    where="bridge.grpc_server",
    never=("bridge.http_server", "fastapi", "starlette"),
)
SDK = Rule(
    "the Agent SDK is spoken in few places",
    where="bridge",
    besides=(
        "bridge.core.control",
        "bridge.core.from_claude",
        "bridge.core.probe",
        "bridge.core.session",
    ),
    never=("claude_agent_sdk",),
)
TRACING = Rule(
    "OpenTelemetry is an extra",
    where="bridge",
    besides=("bridge.tracing",),
    never=("opentelemetry",),
)
SIMULATOR = Rule(
    "the simulator stands alone",
    where="bridge.simulator",
    never=("bridge",),
    but=("bridge.simulator",),
)
RULES = (CORE, HTTP_DOOR, GRPC_DOOR, SDK, TRACING, SIMULATOR)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    assert list(_violations(rule, ROOT)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_is_about_a_folder_that_exists(rule: Rule) -> None:
    assert (ROOT / rule.where.replace(".", "/") / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (CORE, "core/pool.py", "import grpc.aio"),
        (CORE, "core/pool.py", "def late():\n    from pydantic import BaseModel"),
        (CORE, "core/pool.py", "from bridge import v1"),
        (CORE, "core/deep/pool.py", "from ...v1 import completion_pb2"),
        (CORE, "core/__init__.py", "from ..simulator import app"),
        (CORE, "core/pool.py", "import importlib\nimportlib.import_module('fastapi')"),
        (
            HTTP_DOOR,
            "http_server/app.py",
            "if TYPE_CHECKING:\n    from bridge.grpc_server import codec",
        ),
        (GRPC_DOOR, "grpc_server/codec.py", "from bridge.http_server import *"),
        (SDK, "grpc_server/codec.py", "import claude_agent_sdk as sdk"),
        (SDK, "core/pool.py", "try:\n    from claude_agent_sdk.types import X\nexcept E: pass"),
        (SIMULATOR, "simulator/app.py", "import bridge"),
        (SIMULATOR, "simulator/app.py", "from bridge.core.model import Role"),
    ],
)
def test_a_planted_violation_is_found(rule: Rule, path: str, source: str, tmp_path: Path) -> None:
    _plant(tmp_path, path, source)

    assert len(list(_violations(rule, tmp_path))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (CORE, "http_server/app.py", "import fastapi"),
        (CORE, "core/pool.py", "import grpclike"),
        (CORE, "core/pool.py", "from bridge.core.model import Role"),
        (SDK, "core/control.py", "import claude_agent_sdk"),
        (SIMULATOR, "simulator/app.py", "from bridge.simulator import rules"),
        (SIMULATOR, "simulator/app.py", "from . import rules"),
    ],
)
def test_what_is_allowed_is_let_through(rule: Rule, path: str, source: str, tmp_path: Path) -> None:
    _plant(tmp_path, path, source)

    assert list(_violations(rule, tmp_path)) == []


def _plant(root: Path, path: str, source: str) -> None:
    file = root / "bridge" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _violations(rule: Rule, root: Path) -> Iterator[str]:
    for path in sorted((root / "bridge").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        package = ".".join(parts[:-1])
        for line, imported in _imports(ast.parse(path.read_text()), package):
            if rule.forbids(module, imported):
                yield f"{path.relative_to(root)}:{line} imports {imported}"


def _imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Each import with its line; `from a import b` counts as `a.b`, which is in `a` either way."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join(package.split(".")[: 1 - level or None]) if level else ""
                source = ".".join(part for part in (base, module) if part)
                for alias in names:
                    yield node.lineno, f"{source}.{alias.name}"
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
