"""The shipped report: true of the bundled CLI, and taken for no other."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from bridge.core.claude import ALL, cut_off, hermetic_environment
from bridge.probe import Report, Shipped, capabilities_of, probe, report_for
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.bundled import installed_versions, shipped_report
from bridge.probe.checks.check import Behaviour
from bridge.server.launching import bundled_cli
from tests.support.harness import LONG


@pytest.fixture(scope="module")
async def report() -> Report:
    return await probe(bundled_cli())


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.id)
def test_the_bundled_cli_has_it(report: Report, behaviour: Behaviour) -> None:
    assert report.found[behaviour.id], report.details[behaviour.id]


def test_the_shipped_report_is_what_the_probe_finds(report: Report) -> None:
    assert shipped_report(bundled_cli()) == report
    assert capabilities_of(report) == ALL


@LONG
async def test_it_has_the_same_where_it_does_all_that_it_does_for_a_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "bridge.probe.stage.hermetic_environment",
        lambda *given: cut_off(hermetic_environment(*given)),
    )
    report = await probe(bundled_cli())
    assert not report.lacking, report.details


async def test_the_bundled_cli_is_not_probed(tmp_path: Path) -> None:
    async def refuse(cli: Path) -> Report:
        raise AssertionError(cli)

    report = await report_for(bundled_cli(), tmp_path, probing=refuse)
    assert capabilities_of(report) == ALL
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [{"sdk": "0.0.1"}, {"cli": "0.0.1"}, {"behaviours": ["boots"]}],
    ids=["another SDK", "another CLI", "another list"],
)
def test_a_report_for_something_else_is_not_used(change: dict[str, object]) -> None:
    assert shipped_report(bundled_cli(), replace(Shipped.read(), **change)) is None  # type: ignore[arg-type]


def test_a_cli_elsewhere_is_not_taken_for_the_bundled_one(tmp_path: Path) -> None:
    cli = tmp_path / "claude"
    cli.write_text("#!/bin/sh\n")
    (tmp_path / "claude.version").write_text(f"{Shipped.read().cli} (Claude Code)\n")
    assert shipped_report(cli) is None


def test_a_link_to_the_bundled_cli_is_the_bundled_cli(tmp_path: Path) -> None:
    link = tmp_path / "claude"
    link.symlink_to(bundled_cli())
    assert shipped_report(link) is not None


@pytest.fixture
def sdk(tmp_path: Path) -> PathDistribution:
    """An SDK installed as the real one is, with a CLI of nine bytes."""
    bundled = tmp_path / "claude_agent_sdk" / "_bundled"
    bundled.mkdir(parents=True)
    (bundled / "claude").write_text("nine byte")
    (bundled / "claude.version").write_text("2.0.0 (Claude Code)\n")
    info = tmp_path / "claude_agent_sdk-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: claude-agent-sdk\nVersion: 1.2.3\n"
    )
    (info / "RECORD").write_text(
        "claude_agent_sdk/_bundled/claude,sha256=x,9\nclaude_agent_sdk/_bundled/claude.version,,\n"
    )
    return PathDistribution(info)


def test_an_installed_cli_is_known_by_its_wheel(sdk: PathDistribution, tmp_path: Path) -> None:
    cli = tmp_path / "claude_agent_sdk" / "_bundled" / "claude"
    assert installed_versions(cli, sdk) == ("1.2.3", "2.0.0")


@pytest.mark.parametrize("damage", ["another program", None])
def test_one_that_was_replaced_or_lost_its_version_is_not(
    sdk: PathDistribution, tmp_path: Path, damage: str | None
) -> None:
    cli = tmp_path / "claude_agent_sdk" / "_bundled" / "claude"
    if damage is None:
        cli.with_name("claude.version").unlink()
    else:
        cli.write_text(damage)
    assert installed_versions(cli, sdk) is None
