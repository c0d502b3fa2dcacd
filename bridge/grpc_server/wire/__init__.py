"""Messages of bridge.v1, from and to those of the core."""
