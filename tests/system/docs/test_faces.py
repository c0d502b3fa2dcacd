"""Every room can be imported by its face, and that of a light one stays light."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from tests.support.paths import ROOT
from tests.system.docs.modules import modules

FACES = [
    module
    for path, module in modules()
    if path.name == "__init__.py" and "__all__" in path.read_text()
]


@pytest.mark.parametrize("name", FACES)
def test_a_face_has_all_that_it_lists(name: str) -> None:
    face = import_module(name)
    assert face.__all__
    for listed in face.__all__:
        assert getattr(face, listed) is not None
    with pytest.raises(AttributeError):
        _ = face.nothing_of_this_name


def test_the_commands_start_without_what_only_some_of_them_need() -> None:
    program = """
import sys
import bridge.cli, bridge.client, bridge.server
print(*{"claude_agent_sdk", "fastapi", "grpc", "httpx", "pydantic"} & sys.modules.keys())
from bridge.client import HttpClient
print(*{"claude_agent_sdk", "fastapi", "grpc", "pydantic"} & sys.modules.keys())
from bridge.server import Settings
print(*{"claude_agent_sdk", "fastapi", "grpc"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
