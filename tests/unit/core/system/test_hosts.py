from __future__ import annotations

import pytest

from bridge.core.system.hosts import (
    check_host,
    check_origin,
    check_replica,
    is_loopback,
    matches,
    replica_of_host,
    same_origin,
    split_host,
)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", ("localhost", None)),
        ("LocalHost:8000", ("localhost", 8000)),
        ("localhost.:8000", ("localhost", 8000)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]", ("::1", None)),
        ("[0:0:0:0:0:0:0:1]:8000", ("::1", 8000)),
        ("my_host.example.com", ("my_host.example.com", None)),
        ("", None),
        (":8000", None),
        ("::1", None),
        ("[::1", None),
        ("[127.0.0.1]", None),
        ("[example.com]", None),
        ("a b", None),
        ("localhost:", None),
        ("localhost:abc", None),
        ("localhost:8000:1", None),
        ("localhost:800000", None),
        ("localhost,evil.example", None),
        ("user@localhost", None),
        ("localhost/x", None),
        ("localhost..", None),
        ("-a.example", None),
        ("*.example", None),
        ("évil.example", None),
        ("localhost\n", None),
    ],
)
def test_a_host_header(header: str, host: tuple[str, int | None] | None) -> None:
    assert split_host(header) == host


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_what_means_this_machine(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("HTTP://LOCALHOST:8000", "localhost:8000", True),
        ("http://bridge.example", "bridge.example", True),
        ("http://bridge.example", "bridge.example:80", True),
        # A proxy terminated TLS.
        ("https://bridge.example", "bridge.example", True),
        ("https://bridge.example:443", "bridge.example", True),
        ("http://[::1]:8000", "[0::1]:8000", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("http://localhost", "localhost:8000", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("http://evil.example", "localhost:8000", False),
        ("http://localhost:8000.evil.example", "localhost:8000", False),
        ("http://localhost:8000@evil.example", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("", "localhost:8000", False),
        ("localhost:8000", "localhost:8000", False),
        ("chrome-extension://localhost:8000", "localhost:8000", False),
        ("http://localhost:8000/", "localhost:8000", False),
        ("http://localhost:8000", "", False),
    ],
)
def test_the_origin_of_a_page_of_ours(origin: str, host: str, *, same: bool) -> None:
    assert same_origin(origin, host) is same


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("bridge.example.com", True),
        ("a.lan", True),
        ("a.b.lan", True),
        ("lan", False),
        ("evil-lan", False),
        ("example.com", False),
        ("bridge.example.com.evil", False),
    ],
)
def test_hosts_that_are_named(host: str, *, expected: bool) -> None:
    assert matches(host, ("bridge.example.com", "*.lan")) is expected


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Bridge.Example.COM", "bridge.example.com"),
        ("*.lan", "*.lan"),
        ("::1", "::1"),
        ("[0::1]", "::1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_an_allowed_host(name: str, kept: str) -> None:
    assert check_host(name) == kept


@pytest.mark.parametrize("name", ["*", "*.", "a.*.b", "a:80", "http://a", "a/b", "a b", "?.lan"])
def test_what_is_no_host_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="host"):
        check_host(name)


@pytest.mark.parametrize(
    "origin", ["https://Chat.Example.com", "http://a:3000", "app://obsidian.md"]
)
def test_an_allowed_origin(origin: str) -> None:
    assert check_origin(origin) == origin.lower()


@pytest.mark.parametrize(
    "origin", ["*", "null", "a.example", "https://a/", "https://*.a", "https://"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        check_origin(origin)


@pytest.mark.parametrize("name", ["a", "bridge-7", "pod_1.eu", "9" * 64])
def test_a_name_of_a_replica(name: str) -> None:
    assert check_replica(name) == replica_of_host(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".", "a b", "é", "a\r\nb", "9" * 65])
def test_what_cannot_be_the_name_of_a_replica_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        check_replica(name)
    assert check_replica(replica_of_host(name))
