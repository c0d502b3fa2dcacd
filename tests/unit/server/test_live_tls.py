"""Certificates that are replaced; test_hangup.py does it to running servers."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from bridge.server.addresses import ListenError, TlsFiles
from bridge.server.live_tls import LiveTls
from bridge.server.tls import read_tls
from tests.support.certificates import Certificate, certificate

FIRST, SECOND = certificate("first"), certificate("second")


@pytest.fixture
def live(tmp_path: Path) -> LiveTls:
    return LiveTls(read_tls(TlsFiles(*FIRST.write(tmp_path, "server"))))


def shown(server: ssl.SSLContext) -> bytes | None:
    """The certificate that a client which sends no name is shown, without a socket."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there)
    answering = server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in (asking, answering):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return asking.getpeercert(binary_form=True)


def der(made: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(made.cert.decode())


def test_the_next_handshake_has_the_certificate_that_was_read_last(
    live: LiveTls, tmp_path: Path
) -> None:
    assert shown(live.context) == der(FIRST)

    SECOND.write(tmp_path, "server")
    assert shown(live.context) == der(FIRST)
    assert live.renew()

    assert shown(live.context) == der(SECOND)


def test_files_that_have_not_changed_are_no_news(live: LiveTls) -> None:
    before = live.tls

    assert not live.renew()
    assert live.tls is before


def test_a_key_that_does_not_fit_leaves_what_holds(live: LiveTls, tmp_path: Path) -> None:
    (tmp_path / "server.key").write_bytes(SECOND.key)

    with pytest.raises(ListenError, match="BRIDGE_TLS_KEY"):
        live.renew()

    assert shown(live.context) == der(FIRST)
