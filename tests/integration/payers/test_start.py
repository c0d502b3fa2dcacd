"""What a server with payers refuses at its start, and what it says then."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from bridge.core.access.keys import KeyFile
from bridge.core.contract.states import PayerKind
from bridge.core.payers.payer import Payer, PayerFile
from bridge.server.launching import named_payers
from bridge.server.start_error import StartError
from bridge.server.supervisor import FrontEnds, serving
from tests.support.harness import settings_for_tests
from tests.support.paid_server import KEY, TOKEN, secret


def test_there_are_no_more_payers_than_processes(tmp_path: Path) -> None:
    for number in range(3):
        PayerFile(tmp_path).add(Payer(f"p{number}", PayerKind.BEDROCK))
    few = settings_for_tests(tmp_path, pool_size=1, bridge_max_processes=2)
    with pytest.raises(StartError, match="BRIDGE_MAX_PROCESSES to at least 3"):
        named_payers(few)
    enough = settings_for_tests(tmp_path, pool_size=1, bridge_max_processes=3)
    assert len(named_payers(enough)) == 3


def test_a_broken_list_is_not_taken_for_none(tmp_path: Path) -> None:
    PayerFile(tmp_path).path.write_text("{")
    with pytest.raises(StartError, match="is broken"):
        named_payers(settings_for_tests(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"), [("", "one secret"), (TOKEN, "--token-file"), (None, "cannot be read")]
)
async def test_a_secret_that_cannot_be_used_is_said_at_the_start(
    tmp_path: Path, text: str | None, said: str
) -> None:
    path = secret(tmp_path / "key", text or "")
    if text is None:
        path.unlink()
    PayerFile(tmp_path).add(Payer("team", PayerKind.API_KEY, path))
    with pytest.raises(StartError, match=f"Payer team: .*{said}"):
        async with serving(settings_for_tests(tmp_path), FrontEnds()):
            pass


async def test_a_demo_uses_no_payer_and_warns_of_no_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    PayerFile(tmp_path).add(Payer("team", PayerKind.API_KEY, secret(tmp_path / "key", KEY)))
    KeyFile(tmp_path / "keys.json").add("old")
    async with serving(settings_for_tests(tmp_path), FrontEnds(demo=True)) as bridge:
        assert bridge.service.pool_state().payers == ()
        assert bridge.service.health().simulated
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await bridge.service.drain()
    assert "count as yours" not in caplog.text
