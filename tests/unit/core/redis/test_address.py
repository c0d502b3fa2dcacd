"""BRIDGE_REDIS_URL: what it says, and what an error about it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.core.redis import RedisAddress, parse_redis_url


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://cache", RedisAddress("cache"), "cache:6379"),
        ("redis://[::1]:7000", RedisAddress("::1", 7000), "[::1]:7000"),
        ("redis://cache/3", RedisAddress("cache", database=3), "cache:6379, database 3"),
        ("redis://cache?db=3", RedisAddress("cache", database=3), "cache:6379, database 3"),
        (
            "rediss://me:p%40ss%23@cache:1",
            RedisAddress("cache", 1, username="me", password="p@ss#", tls=True),
            "cache:1",
        ),
        ("redis://:only@cache", RedisAddress("cache", password="only"), "cache:6379"),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock"), "/run/redis.sock"),
        (
            "unix://me:pw@/run/r.sock?db=2",
            RedisAddress(path="/run/r.sock", database=2, username="me", password="pw"),
            "/run/r.sock, database 2",
        ),
    ],
)
def test_a_url_says_where_redis_is(url: str, address: RedisAddress, shown: str) -> None:
    assert parse_redis_url(url) == address
    assert str(parse_redis_url(url)) == shown


def test_the_files_for_tls_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ValueError, match=r"ssl_ca_certs: the file .* does not exist"):
        parse_redis_url(f"rediss://cache?ssl_ca_certs={file}")
    file.touch()
    assert parse_redis_url(f"rediss://cache?ssl_ca_certs={file}").ca_certs == str(file)
    with pytest.raises(ValueError, match="ssl_ca_certs requires a rediss:// URL"):
        parse_redis_url(f"redis://cache?ssl_ca_certs={file}")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("cache:6379", "expected redis://HOST"),
        ("http://me:sesame@cache", "expected redis://HOST"),
        ("redis://", "no host"),
        ("redis://:sesame@cache:port", "not a valid URL"),
        ("redis://:sesame#1@cache", "'#' is %23"),
        ("redis://:sesame?x@cache", "percent-encoded"),
        ("redis://sesame#1@cache", "it is %23"),
        ("redis://sesame?x@cache", "unknown parameter"),
        ("redis://:sesame@cache/first", "must be a number"),
        ("rediss://cache?ssl_cert_reqs=none", "unknown parameter"),
        ("unix://me:sesame@run/redis.sock", "must be absolute"),
        ("unix://", "must be absolute"),
    ],
)
def test_an_error_names_the_remedy_and_not_the_password(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        parse_redis_url(url)
    assert "sesame" not in str(raised.value)


def test_the_password_is_in_no_representation() -> None:
    address = parse_redis_url("redis://me:sesame@cache")
    assert "sesame" not in f"{address} {address!r}"
