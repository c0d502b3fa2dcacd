"""The running server: settings, addresses, TLS, and the supervisor."""
