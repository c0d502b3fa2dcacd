"""The CLI that the SDK brings, put through the list. This judges a new version of the SDK."""

from __future__ import annotations

import pytest

from bridge.core.claude.capabilities import ALL
from bridge.probe import Report, capabilities_of, fallbacks, missing, probe
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.checks.check import Behaviour
from bridge.server.launching import bundled_cli


@pytest.fixture(scope="module")
async def report() -> Report:
    return await probe(bundled_cli())


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.id)
def test_the_bundled_cli_has_it(report: Report, behaviour: Behaviour) -> None:
    assert report.found[behaviour.id], report.details[behaviour.id]


def test_so_nothing_is_missing_and_no_fallback_is_in_use(report: Report) -> None:
    assert missing(report) == ()
    assert fallbacks(report) == ()
    assert capabilities_of(report) == ALL
    assert report.cli_version.count(".") == 2
    assert len(report.cli_sha256) == 64
