"""The servers get their part of the settings; test_listening.py runs them."""

from __future__ import annotations

from pathlib import Path

from bridge.grpc_server import ConnectionLimits
from bridge.http_server import HttpSettings
from bridge.server.addresses import Tcp
from bridge.server.front_ends import connection_limits, http_settings
from tests.support.harness import settings_for_tests


def test_the_http_server_gets_what_was_set(tmp_path: Path) -> None:
    settings = settings_for_tests(
        tmp_path,
        bridge_http_keep_alive=600,
        bridge_http_max_connections=9,
        bridge_heartbeat_seconds=25,
        bridge_strict=True,
        bridge_allowed_hosts="bridge.example.com",
        bridge_allowed_origins="https://page.example.com",
    )

    given = http_settings(settings, Tcp("127.0.0.1", 50051))

    assert given.idle_connection_seconds == 600
    assert given.max_connections == 9
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


def test_the_grpc_server_gets_what_was_set(tmp_path: Path) -> None:
    settings = settings_for_tests(
        tmp_path,
        bridge_grpc_max_connections=2,
        bridge_grpc_max_streams=3,
        bridge_grpc_keepalive_seconds=4,
        bridge_grpc_keepalive_timeout=5,
        bridge_grpc_min_ping_seconds=6,
        bridge_grpc_max_connection_age=7,
        bridge_grpc_max_connection_age_grace=8,
    )
    assert connection_limits(settings) == ConnectionLimits(2, 3, 4, 5, 6, 7, 8)


def test_both_servers_have_the_same_defaults_without_settings(tmp_path: Path) -> None:
    settings = settings_for_tests(tmp_path)
    assert connection_limits(settings) == ConnectionLimits()
    assert http_settings(settings, None).max_connections == HttpSettings().max_connections
