"""TLS of both doors, from the person's own files, and how their own clients know the server."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from bridge.server.addresses import ListenError, TlsFiles

_END: Final = b"-----END CERTIFICATE-----"
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the module ssl has no name for.
_NO_CHECK_TIME: Final = 0x200000


@dataclass(frozen=True, slots=True)
class Tls:
    """Files that were read, and fit together."""

    files: TlsFiles
    cert: bytes
    """The certificate and its chain, in PEM."""
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext
    """For the HTTP door: TLS 1.2 or later, and no certificates of clients."""
    not_after: float
    """When the certificate expires, in Unix seconds."""


def read_tls(files: TlsFiles, now: Callable[[], float] = time.time) -> Tls:
    """Read the files and try them; raises ListenError, which names the variable.

    A certificate that clients would refuse today is refused, too.
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
        # Without `password`, an encrypted key would be asked for at the terminal.
        context.load_cert_chain(files.cert, files.key, password=_encrypted(files.key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ListenError(
                f"BRIDGE_TLS_KEY: {files.key} is not the key of the certificate in "
                f"BRIDGE_TLS_CERT, {files.cert}."
            ) from None
        raise ListenError(
            f"BRIDGE_TLS_KEY: {files.key} cannot be used with {files.cert} "
            f"({error.reason or 'unknown reason'}). It must be the certificate's key, in PEM."
        ) from None
    not_after = _check_dates(_shown(context, files.cert), files.cert, now())
    return Tls(files, cert, key, client_ca, context, not_after)


def _shown(server: ssl.SSLContext, cert: Path) -> dict[str, Any]:
    """The server's certificate, decoded, as a client gets it: by a handshake within memory."""
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
            f"BRIDGE_TLS_CERT: no client could connect with {cert} ({error.reason})."
        ) from None
    return dict(client.getpeercert() or {})


def _shook_hands(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _check_dates(shown: dict[str, Any], cert: Path, now: float) -> float:
    """Give the time at which the certificate expires; raises ListenError outside its dates."""
    begins, ends = (ssl.cert_time_to_seconds(shown[name]) for name in ("notBefore", "notAfter"))
    if now > ends:
        raise ListenError(
            f"BRIDGE_TLS_CERT: {cert} expired on {shown['notAfter']}, and clients refuse it. "
            "Renew it."
        )
    if now < begins:
        raise ListenError(
            f"BRIDGE_TLS_CERT: {cert} is not valid before {shown['notBefore']}, and clients refuse "
            "it until then. Check the clock of this machine, or use another certificate."
        )
    return float(ends)


def _check_signers(signers: list[dict[str, Any]], file: Path, now: float) -> None:
    """Raise ListenError where every client's certificate would be refused."""
    ends = [ssl.cert_time_to_seconds(signer["notAfter"]) for signer in signers]
    if ends and max(ends) < now:
        raise ListenError(
            f"BRIDGE_TLS_CLIENT_CA: every certificate in {file} has expired, so that no client's "
            "would be accepted. Renew it."
        )


def own_client_context(cert_file: Path) -> ssl.SSLContext:
    """For a client on the server's machine: trusts exactly the server's own certificate.

    So its names need not fit the address. Raises ListenError where the file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    # It is trusted by itself, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    leaf = first_certificate(_read(cert_file, "BRIDGE_TLS_CERT"))
    _load(context, leaf, cert_file, "BRIDGE_TLS_CERT")
    return context


def first_certificate(chain: bytes) -> bytes:
    """The server's own certificate of a chain in PEM.

    What signed it has signed others too, which a client that trusted the chain would accept.
    """
    head, end, _ = chain.partition(_END)
    return head + end + b"\n"


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ListenError(f"{variable}: {path} cannot be read: {error.strerror}.") from None


def _check_certificates(content: bytes, path: Path, variable: str) -> list[dict[str, Any]]:
    """Give those that may sign others, decoded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, content, path, variable)
    return context.get_ca_certs()


def _load(context: ssl.SSLContext, content: bytes, path: Path, variable: str) -> None:
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise ListenError(f"{variable}: {path} holds no certificate in PEM.") from None


def _encrypted(path: Path) -> Callable[[], NoReturn]:
    def refuse() -> NoReturn:
        raise ListenError(
            f"BRIDGE_TLS_KEY: {path} is encrypted, and the server asks for no password. "
            "Decrypt it into a file with mode 600."
        )

    return refuse
