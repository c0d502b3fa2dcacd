"""TLS of both doors, from the person's own files, and how their own clients know the server."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from bridge.server.addresses import ListenError, TlsFiles

_END: Final = b"-----END CERTIFICATE-----"


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


def read_tls(files: TlsFiles) -> Tls:
    """Read the files and try them; raises ListenError, which names the variable."""
    cert = _read(files.cert, "BRIDGE_TLS_CERT")
    key = _read(files.key, "BRIDGE_TLS_KEY")
    _check_certificates(cert, files.cert, "BRIDGE_TLS_CERT")
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read(files.client_ca, "BRIDGE_TLS_CLIENT_CA")
        _check_certificates(client_ca, files.client_ca, "BRIDGE_TLS_CLIENT_CA")
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
    return Tls(files, cert, key, client_ca, context)


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


def _check_certificates(content: bytes, path: Path, variable: str) -> None:
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), content, path, variable)


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
