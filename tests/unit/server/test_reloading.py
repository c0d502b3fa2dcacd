"""What a reload reads again, and what it names; test_hangup.py sends the signal."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.core.access import Access, KeyFile
from bridge.core.claude import read_user_settings
from bridge.core.contract import PayerKind
from bridge.core.payers import Payer, PayerFile
from bridge.server.reloading import reload
from bridge.server.settings import Settings
from tests.support.harness import settings_for_tests


class Reloaded:
    """What a reload needs of a running bridge, with the settings that it was started with."""

    def __init__(self, state: Path) -> None:
        self.settings: Settings = settings_for_tests(state, bridge_setting_sources="user")
        self.keys = KeyFile(state / "keys.json")
        self.access = Access(store=self.keys)
        self.config = state / "settings.json"
        environment = {"CLAUDE_CONFIG_DIR": str(state)}
        launcher = SimpleNamespace(user_settings=read_user_settings(environment))
        self.bridge: Any = SimpleNamespace(
            live_tls=None,
            access=self.access,
            system_prompt=self.settings.system_prompt(),
            engine=SimpleNamespace(launcher=launcher),
            simulator=None,
            payers=(),
        )

    def reload(self) -> None:
        reload(self.bridge, self.settings)


@pytest.fixture
def started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Reloaded:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    caplog.set_level(logging.INFO, "bridge")
    return Reloaded(tmp_path)


def test_the_keys_are_read_at_once(started: Reloaded, caplog: pytest.LogCaptureFixture) -> None:
    started.keys.add("laptop")
    assert not started.access.keys  # nobody has asked, and `following` does not run

    started.reload()

    assert list(started.access.keys) == ["laptop"]
    assert "reloaded: the keys (1)" in caplog.text


def test_a_changed_login_is_named(started: Reloaded, caplog: pytest.LogCaptureFixture) -> None:
    started.config.write_text(json.dumps({"model": "opus"}))

    started.reload()

    assert "not reloaded: the model or the login in Claude Code's own settings.json" in caplog.text


def test_a_login_that_is_not_used_is_not_named(
    started: Reloaded, caplog: pytest.LogCaptureFixture
) -> None:
    started.bridge.simulator = object()
    started.config.write_text(json.dumps({"model": "opus"}))

    started.reload()

    assert "not reloaded" not in caplog.text


def test_a_changed_list_of_payers_is_named(
    started: Reloaded, caplog: pytest.LogCaptureFixture
) -> None:
    file = PayerFile(started.settings.bridge_state_dir)
    file.add(Payer("cloud", PayerKind.BEDROCK))
    started.reload()
    assert "not reloaded: the list of payers has changed" in caplog.text
    started.bridge.payers = file.read()
    caplog.clear()
    started.reload()
    assert "payers" not in caplog.text
    file.path.write_text("{")
    started.reload()
    assert "the list of payers has changed" in caplog.text


def test_where_nothing_has_changed_nothing_is_named(
    started: Reloaded, caplog: pytest.LogCaptureFixture
) -> None:
    started.reload()

    assert "not reloaded" not in caplog.text
