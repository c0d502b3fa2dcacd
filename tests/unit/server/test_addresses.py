"""Where the APIs listen, decided without opening any."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bridge.server.addresses import (
    ListenError,
    Plan,
    Tcp,
    TlsFiles,
    Unix,
    addresses_of,
    http_api_url,
    local_url,
    plan_listening,
)
from bridge.server.settings import Settings
from bridge.server.tls import first_certificate, own_client_context, read_tls
from tests.support.certificates import Certificate, certificate

NAMES: Mapping[str, tuple[str, ...]] = {
    "here": ("127.0.0.1", "::1"),
    "half": ("127.0.0.1", "192.0.2.7"),
    "there": ("192.0.2.7",),
}

TLS: dict[str, Any] = {"bridge_tls_cert": Path("c"), "bridge_tls_key": Path("k")}
MUTUAL: dict[str, Any] = {**TLS, "bridge_tls_client_ca": Path("ca")}


def planned(
    *, http: bool = True, grpc: bool = True, has_keys: bool = False, **settings: Any
) -> Plan:
    def resolve(host: str) -> tuple[str, ...]:
        return NAMES.get(host) or addresses_of(host)

    return plan_listening(
        Settings(**settings), http=http, grpc=grpc, has_keys=has_keys, resolve=resolve
    )


def test_both_apis_listen_on_loopback_by_default() -> None:
    assert planned() == Plan(Tcp("127.0.0.1", 8000), Tcp("127.0.0.1", 50051))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1", "localhost", "here", "127.1"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert planned(host=host).http == Tcp(host, 8000)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "0", "192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "half"]
)
@pytest.mark.parametrize("apis", [(True, True), (True, False), (False, True)])
def test_what_others_can_reach_is_not_served_without_keys(
    host: str, apis: tuple[bool, bool]
) -> None:
    http, grpc = apis
    with pytest.raises(ListenError) as caught:
        planned(host=host, http=http, grpc=grpc)
    message = str(caught.value)
    assert f"HOST is {host or 'empty'}" in message
    assert "bridge keys add" in message
    assert "set HOST to 127.0.0.1" in message
    assert len(message.splitlines()) <= 2
    # Certificates would not do for HTTP.
    assert ("BRIDGE_TLS_CLIENT_CA" in message) == (not http)
    # With keys it is.
    planned(host=host, http=http, grpc=grpc, has_keys=True)


def test_grpc_alone_may_be_reached_by_those_with_a_certificate() -> None:
    assert planned(host="there", http=False, **MUTUAL).grpc == Tcp("there", 50051)
    # Also beside an HTTP API that only this machine's user can reach.
    assert planned(host="there", bridge_uds=Path("/r/s"), **MUTUAL).http == Unix(Path("/r/s"))


@pytest.mark.parametrize(
    "changes",
    [
        {**MUTUAL},
        {**TLS, "http": False},
        {"bridge_uds": Path("/r/s")},
        {"bridge_grpc_uds": Path("/r/s")},
    ],
    ids=["HTTP beside mutual TLS", "TLS alone", "gRPC on a port", "HTTP on a port"],
)
def test_one_api_that_anyone_may_use_is_one_too_many(changes: dict[str, Any]) -> None:
    with pytest.raises(ListenError, match="no keys"):
        planned(host="there", **changes)


def test_on_sockets_alone_the_host_does_not_matter() -> None:
    plan = planned(host="there", bridge_uds=Path("/r/h"), bridge_grpc_uds=Path("/r/g"))
    assert plan == Plan(Unix(Path("/r/h")), Unix(Path("/r/g")))


def test_a_socket_is_looked_for_from_here_and_from_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    plan = planned(bridge_uds=Path("run/h"), bridge_grpc_uds=Path("~/g"))
    assert plan == Plan(Unix(tmp_path / "run" / "h"), Unix(Path("/home/me/g")))


def test_the_apis_do_not_share_a_socket() -> None:
    with pytest.raises(ListenError, match="BRIDGE_UDS and BRIDGE_GRPC_UDS"):
        planned(bridge_uds=Path("/r/s"), bridge_grpc_uds=Path("/r/s"))


def test_a_host_that_does_not_exist_is_reported_clearly() -> None:
    with pytest.raises(ListenError, match=r"host 'no\.such\.host\.invalid' has no address"):
        planned(host="no.such.host.invalid")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"bridge_tls_cert": Path("c")}, "BRIDGE_TLS_CERT is set, but BRIDGE_TLS_KEY is not"),
        ({"bridge_tls_key": Path("k")}, "BRIDGE_TLS_KEY is set, but BRIDGE_TLS_CERT is not"),
        ({"bridge_tls_client_ca": Path("a")}, "BRIDGE_TLS_CLIENT_CA is set, but BRIDGE_TLS_CERT"),
        ({**MUTUAL, "grpc": False}, "BRIDGE_TLS_CLIENT_CA only applies to the gRPC API"),
    ],
)
def test_half_of_tls_is_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ListenError, match=named):
        planned(**given)


def test_with_tls_both_apis_speak_it() -> None:
    assert planned(**MUTUAL).tls == TlsFiles(Path("c"), Path("k"), Path("ca"))


@pytest.mark.parametrize(
    ("address", "tls", "told", "url"),
    [
        (Tcp("127.0.0.1", 7), False, "http://127.0.0.1:7/v1", "http://127.0.0.1:7"),
        (Tcp("::1", 7), True, "https://[::1]:7/v1", "https://[::1]:7"),
        (Tcp("0.0.0.0", 7), False, "http://0.0.0.0:7/v1", "http://127.0.0.1:7"),
        (Unix(Path("/r/s")), False, "unix:/r/s (http)", "http://localhost"),
        (Unix(Path("/r/s")), True, "unix:/r/s (https)", "https://localhost"),
    ],
)
def test_an_address_is_shown_as_users_and_as_clients_need_it(
    address: Tcp | Unix, tls: bool, told: str, url: str
) -> None:
    assert http_api_url(address, tls=tls) == told
    assert local_url(address, tls=tls) == url


@pytest.fixture(scope="module")
def server() -> Certificate:
    return certificate("bridge.example.com")


def files(folder: Path, given: Certificate, *, ca: bytes | None = None) -> TlsFiles:
    cert, key = given.write(folder, "server")
    if ca is not None:
        (folder / "ca.pem").write_bytes(ca)
    return TlsFiles(cert, key, None if ca is None else folder / "ca.pem")


def test_files_that_fit_are_read(tmp_path: Path, server: Certificate) -> None:
    tls = read_tls(files(tmp_path, server, ca=server.cert))
    assert (tls.cert, tls.key, tls.client_ca) == (server.cert, server.key, server.cert)
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("server.pem", "BRIDGE_TLS_CERT"),
        ("server.key", "BRIDGE_TLS_KEY"),
        ("ca.pem", "BRIDGE_TLS_CLIENT_CA"),
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\xff no PEM"])
def test_a_file_that_cannot_be_used_is_named_with_its_variable(
    tmp_path: Path, server: Certificate, name: str, variable: str, content: bytes | None
) -> None:
    made = files(tmp_path, server, ca=server.cert)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ListenError, match=rf"^{variable}: .*{name}"):
        read_tls(made)


def test_the_key_of_another_certificate_is_refused(tmp_path: Path, server: Certificate) -> None:
    made = files(tmp_path, server)
    made.key.write_bytes(certificate("other").key)
    with pytest.raises(ListenError, match=r"BRIDGE_TLS_KEY: .*server\.key does not match"):
        read_tls(made)


def test_an_encrypted_key_is_refused_instead_of_asked_for(
    tmp_path: Path, server: Certificate
) -> None:
    made = files(tmp_path, server)
    made.key.write_bytes(server.encrypted_key(b"password"))
    with pytest.raises(ListenError, match=r"BRIDGE_TLS_KEY: .* is encrypted"):
        read_tls(made)


def test_of_a_chain_only_the_servers_own_certificate_is_trusted(tmp_path: Path) -> None:
    """Else whatever the same authority has signed could stand in for the server."""
    authority = certificate("authority")
    ours, other = (certificate(name, signed_by=authority) for name in ("ours", "other"))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(ours.cert + authority.cert)
    assert first_certificate(chain.read_bytes()) == ours.cert
    client = own_client_context(chain)
    assert _handshake(client, files(tmp_path, ours)) == "ours"
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(client, files(tmp_path, other))


def _handshake(client: ssl.SSLContext, server: TlsFiles) -> str:
    """Let a client and a server talk in memory; gives the name that the client was shown."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=None)
    answering = read_tls(server).context.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    shown: Any = asking.getpeercert()
    return str(dict(part[0] for part in shown["subject"])["commonName"])


@pytest.mark.parametrize(
    ("days", "said"),
    [((-3, -1), r"server\.pem expired on .* Renew it"), ((1, 3), r"not valid before .* clock")],
)
def test_a_certificate_that_clients_would_refuse_today_is_refused(
    tmp_path: Path, days: tuple[int, int], said: str
) -> None:
    made = files(tmp_path, certificate("a", days=days))
    with pytest.raises(ListenError, match=f"^BRIDGE_TLS_CERT: .*{said}"):
        read_tls(made)


def test_a_valid_certificate_is_shown_with_its_expiry_date(
    tmp_path: Path, server: Certificate
) -> None:
    until = server.certificate.not_valid_after_utc.timestamp()
    made = files(tmp_path, server, ca=server.cert)
    assert read_tls(made, lambda: until - 1).not_after == until
    with pytest.raises(ListenError, match="expired"):
        read_tls(made, lambda: until + 1)


def test_at_least_one_client_ca_must_be_valid(tmp_path: Path, server: Certificate) -> None:
    old = certificate("old", days=(-3, -1)).cert
    read_tls(files(tmp_path, server, ca=old + server.cert))
    with pytest.raises(ListenError, match=r"^BRIDGE_TLS_CLIENT_CA: every certificate in .*expired"):
        read_tls(files(tmp_path, server, ca=old))


def test_two_servers_on_one_port_are_refused_by_both_names() -> None:
    with pytest.raises(ListenError, match=r"PORT .*GRPC_PORT .*both 9000"):
        planned(port=9000, grpc_port=9000)
    assert planned(port=9000, grpc_port=9000, grpc=False).http == Tcp("127.0.0.1", 9000)
    assert planned(port=0, grpc_port=0).grpc == Tcp("127.0.0.1", 0)
    assert planned(port=9000, grpc_port=9000, bridge_uds=Path("/a")).grpc is not None
