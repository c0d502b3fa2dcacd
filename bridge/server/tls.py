"""TLS of both APIs, from the operator's files, and the trust of the bridge's own clients."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from bridge.server.addresses import ListenError, TlsFiles

_END: Final = b"-----END CERTIFICATE-----"
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME; the ssl module does not define it.
_NO_CHECK_TIME: Final = 0x200000


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS files, read and checked against each other."""

    files: TlsFiles
    cert: bytes
    """The certificate and its chain, in PEM."""
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext
    """For the HTTP API: TLS 1.2 or later, without client certificates."""
    not_after: float
    """When the certificate expires, in Unix seconds."""


def read_tls(files: TlsFiles, now: Callable[[], float] = time.time) -> Tls:
    """Read and check the files; raises ListenError, which names the variable.

    A certificate that clients would refuse now is refused, too.
    """
    cert = _read(files.cert, "BRIDGE_TLS_CERT")
    key = _read(files.key, "BRIDGE_TLS_KEY")
    _check_certificates(cert, files.cert, "BRIDGE_TLS_CERT")
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read(files.client_ca, "BRIDGE_TLS_CLIENT_CA")
        signers = _check_certificates(client_ca, files.client_ca, "BRIDGE_TLS_CLIENT_CA")
        _check_signers(signers, files.client_ca, now())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without `password`, OpenSSL would prompt at the terminal for an encrypted key.
        context.load_cert_chain(files.cert, files.key, password=_encrypted(files.key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ListenError(
                f"BRIDGE_TLS_KEY: {files.key} does not match the certificate in "
                f"BRIDGE_TLS_CERT, {files.cert}."
            ) from None
        raise ListenError(
            f"BRIDGE_TLS_KEY: {files.key} cannot be used with {files.cert} "
            f"({error.reason or 'unknown reason'}). Use the certificate's key, in PEM."
        ) from None
    not_after = _check_dates(_shown(context, files.cert), files.cert, now())
    return Tls(files, cert, key, client_ca, context, not_after)


def _shown(server: ssl.SSLContext, cert: Path) -> dict[str, Any]:
    """The server's certificate, decoded, as a client sees it in an in-memory handshake."""
    context = own_client_context(cert)
    context.verify_flags |= _NO_CHECK_TIME
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server)
    ends = [client, server.wrap_bio(to_server, to_client, server_side=True)]
    try:
        while ends:
            ends = [end for end in ends if not _shook_hands(end)]
    except ssl.SSLError as error:
        raise ListenError(
            f"BRIDGE_TLS_CERT: a TLS handshake with {cert} fails ({error.reason})."
        ) from None
    return dict(client.getpeercert() or {})


def _shook_hands(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _check_dates(shown: dict[str, Any], cert: Path, now: float) -> float:
    """Return when the certificate expires; raises ListenError if it is not valid now."""
    begins, ends = (ssl.cert_time_to_seconds(shown[name]) for name in ("notBefore", "notAfter"))
    if now > ends:
        raise ListenError(
            f"BRIDGE_TLS_CERT: {cert} expired on {shown['notAfter']}: clients refuse it. Renew it."
        )
    if now < begins:
        raise ListenError(
            f"BRIDGE_TLS_CERT: {cert} is not valid before {shown['notBefore']}: clients refuse "
            "it until then. Check this machine's clock, or use another certificate."
        )
    return float(ends)


def _check_signers(signers: list[dict[str, Any]], file: Path, now: float) -> None:
    """Raise ListenError if every client certificate would be refused."""
    ends = [ssl.cert_time_to_seconds(signer["notAfter"]) for signer in signers]
    if ends and max(ends) < now:
        raise ListenError(
            f"BRIDGE_TLS_CLIENT_CA: every certificate in {file} has expired: no client "
            "certificate would be accepted. Renew it."
        )


def own_client_context(cert_file: Path) -> ssl.SSLContext:
    """For a client on the server's machine: trusts exactly the server's own certificate.

    Its names need not match the address. Raises ListenError if the file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    # It is trusted as such, whoever signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    leaf = first_certificate(_read(cert_file, "BRIDGE_TLS_CERT"))
    _load(context, leaf, cert_file, "BRIDGE_TLS_CERT")
    return context


def first_certificate(chain: bytes) -> bytes:
    """The first (the server's own) certificate of a chain in PEM.

    A client that trusted the whole chain would accept other certificates of the same issuer.
    """
    head, end, _ = chain.partition(_END)
    return head + end + b"\n"


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ListenError(f"{variable}: {path} cannot be read: {error.strerror}.") from None


def _check_certificates(content: bytes, path: Path, variable: str) -> list[dict[str, Any]]:
    """Check the PEM; return its CA certificates, decoded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, content, path, variable)
    return context.get_ca_certs()


def _load(context: ssl.SSLContext, content: bytes, path: Path, variable: str) -> None:
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise ListenError(f"{variable}: {path} contains no PEM certificate.") from None


def _encrypted(path: Path) -> Callable[[], NoReturn]:
    def refuse() -> NoReturn:
        raise ListenError(
            f"BRIDGE_TLS_KEY: {path} is encrypted, which is not supported. "
            "Decrypt it into a file with mode 600."
        )

    return refuse
