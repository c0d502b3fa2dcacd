"""Reading the body of a request: its size, its time, its encoding, its JSON."""

from bridge.http_server.body.reading import read_json

__all__ = ["read_json"]
