"""TLS whose certificates can be replaced while both servers run."""

from __future__ import annotations

import ssl

import grpc

from bridge.server.tls import Tls, read_tls


class LiveTls:
    """The certificates in use. Open connections keep those of their handshake."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.context = tls.context
        """For the HTTP server, which cannot exchange the context; its SNI callback switches to the
        current one. (Loading another certificate into it would keep the old one, too, if their key
        types differ.)"""
        self.context.sni_callback = self._switch_context

    @property
    def tls(self) -> Tls:
        """The files as last read."""
        return self._tls

    def renew(self) -> bool:
        """Read the files again; returns whether they have changed.

        Raises ListenError if they cannot be used; the previous ones then stay in use.
        """
        before, tls = self._tls, read_tls(self._tls.files)
        if (tls.cert, tls.key, tls.client_ca) == (before.cert, before.key, before.client_ca):
            return False
        self._tls = tls
        return True

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For the gRPC server, which fetches the current files before each handshake.

        Whether clients need a certificate is fixed at the start.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._grpc_configuration(),
            self._grpc_configuration,
            require_client_authentication=self._tls.client_ca is not None,
        )

    def _grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        return grpc.ssl_server_certificate_configuration([(tls.key, tls.cert)], tls.client_ca)

    def _switch_context(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        """Called at the start of each handshake, with or without a server name."""
        if self._tls.context is not self.context:
            connection.context = self._tls.context
