"""The servers get their part of the settings; test_listening.py runs them."""

from __future__ import annotations

from pathlib import Path

from bridge.server.addresses import Tcp
from bridge.server.front_ends import http_settings
from tests.support.harness import settings_for_tests


def test_the_http_server_gets_what_was_set(tmp_path: Path) -> None:
    settings = settings_for_tests(
        tmp_path,
        bridge_http_keep_alive=600,
        bridge_heartbeat_seconds=25,
        bridge_strict=True,
        bridge_allowed_hosts="bridge.example.com",
        bridge_allowed_origins="https://page.example.com",
    )

    given = http_settings(settings, Tcp("127.0.0.1", 50051))

    assert given.idle_connection_seconds == 600
    assert given.keep_alive_seconds == 25
    assert given.strict
    assert given.public
    assert given.allowed_hosts == ("127.0.0.1", "bridge.example.com")
    assert given.allowed_origins == ("https://page.example.com",)
    assert given.grpc == "127.0.0.1:50051"


def test_idle_connections_are_kept_longer_than_clients_and_proxies_keep_them(
    tmp_path: Path,
) -> None:
    given = http_settings(settings_for_tests(tmp_path), None)

    # nginx, which keeps them for 60, and the load balancers of clouds.
    assert given.idle_connection_seconds > 60
    assert not given.public
