"""TLS whose certificates can be replaced while both servers run."""

from __future__ import annotations

import ssl

import grpc

from bridge.server.tls import Tls, read_tls


class LiveTls:
    """The certificates in force. Connections that stand keep those that they began with."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.context = tls.context
        """For the HTTP server: the context itself cannot be exchanged, but it hands on to another.
        (Another certificate loaded into it would stand beside the old one where the kinds of their
        keys differ.)"""
        self.context.sni_callback = self._hand_on

    @property
    def tls(self) -> Tls:
        """The files as they were read last."""
        return self._tls

    def renew(self) -> bool:
        """Read the files again; gives whether they differ.

        Raises ListenError where they cannot be used: those read before stay in force then.
        """
        before, tls = self._tls, read_tls(self._tls.files)
        if (tls.cert, tls.key, tls.client_ca) == (before.cert, before.key, before.client_ca):
            return False
        self._tls = tls
        return True

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For the gRPC server, which asks before each handshake what holds.

        Whether clients need a certificate is decided once.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._grpc_configuration(),
            self._grpc_configuration,
            require_client_authentication=self._tls.client_ca is not None,
        )

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        return grpc.ssl_server_certificate_configuration([(tls.key, tls.cert)], tls.client_ca)

    def _hand_on(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        """Called at the beginning of each handshake, whether or not a name was sent."""
        if self._tls.context is not self.context:
            connection.context = self._tls.context
