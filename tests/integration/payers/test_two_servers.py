"""Two servers with the real CLI, one account and one Redis: one learns of a limit for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge.core.access.keys import KeyOwner, KeyUse
from bridge.core.payers.payer import PayerFile
from bridge.core.redis import parse_redis_url
from tests.support.harness import LoopThread
from tests.support.paid_server import KEY, TOKEN, PaidBridge, paid_bridge, payer_named
from tests.support.redis_server import RedisServer
from tests.support.user_server import user_bridge

PAYERS = ("ci", "team")


def test_a_token_at_its_limit_is_left_out_by_the_other_server_too(
    tmp_path: Path, loop_thread: LoopThread, redis_server: RedisServer
) -> None:
    one_home, other_home = tmp_path / "one", tmp_path / "other"
    other_home.mkdir()
    for name in PAYERS:
        PayerFile(other_home / "state").add(payer_named(name, other_home))
    one_home.mkdir()
    settings: dict[str, Any] = {
        "bridge_redis_url": parse_redis_url(redis_server.url),
        "bridge_keys_file": one_home / "state" / "keys.json",
    }
    accounts = {TOKEN: {"limited": ["opus"]}, KEY: "everything"}
    uses = {"me": KeyUse(KeyOwner.MINE, PAYERS, overflow=True)}
    with (
        paid_bridge(one_home, loop_thread, PAYERS, uses, accounts=accounts, **settings) as one,
        user_bridge(other_home, loop_thread, one.simulator, **settings) as bridge,
    ):
        other = PaidBridge(bridge, one.simulator, other_home, one.keys)
        assert one.ask("me", "first", "opus").status_code == 200
        assert one.credentials("first") == {TOKEN, KEY}
        assert other.ask("me", "second", "opus").status_code == 200
        assert other.credentials("second") == {KEY}
        # Only for this model.
        assert other.ask("me", "third", "haiku").status_code == 200
        assert other.credentials("third") == {TOKEN}
