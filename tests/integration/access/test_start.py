"""A server whose keys cannot be read does not start: it must not take that for no keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.core.access.keys import KeyFile
from bridge.server.start_error import StartError
from tests.support.harness import RunningBridge

Start = Callable[..., RunningBridge]


def test_a_key_file_that_was_named_must_be_there(start_bridge: Start, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"BRIDGE_KEYS_FILE: .* `bridge keys add NAME --mine`"):
        start_bridge(bridge_keys_file=tmp_path / "nowhere.json")


def test_a_broken_key_file_is_no_missing_one(start_bridge: Start, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "state0" / "keys.json")
    file.add("laptop")
    file.path.write_text("")
    with pytest.raises(StartError, match="is broken"):
        start_bridge()


def test_a_key_file_that_others_may_write_is_refused(start_bridge: Start, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    file.add("laptop")
    file.path.chmod(0o666)
    with pytest.raises(StartError, match="chmod 600"):
        start_bridge(bridge_keys_file=file.path)
