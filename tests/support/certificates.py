"""Certificates for tests, made when they are needed."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, and who has signed it."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    @property
    def cert(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> bytes:
        return self._key(serialization.NoEncryption())

    def encrypted_key(self, password: bytes) -> bytes:
        return self._key(serialization.BestAvailableEncryption(password))

    def _key(self, encryption: serialization.KeySerializationEncryption) -> bytes:
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write the certificate and its key into files; gives their paths."""
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key


def certificate(
    name: str = "",
    *,
    also: tuple[str, ...] = (),
    signed_by: Certificate | None = None,
    days: tuple[int, int] = (-1, 2),
) -> Certificate:
    """Make a certificate with a common name and alternative names; self-signed by default.

    One that is signed by itself may sign others. It is valid between two `days` from now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    subject = x509.Name(attributes)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by.certificate.subject if signed_by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(signed_by is None, None), critical=True)
    )
    if also:
        names = x509.SubjectAlternativeName([_name(entry) for entry in also])
        builder = builder.add_extension(names, critical=False)
    signer = signed_by.private_key if signed_by else key
    return Certificate(builder.sign(signer, hashes.SHA256()), key)


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
