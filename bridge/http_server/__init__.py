"""The HTTP server: decodes requests in their dialect, passes them to the core, encodes the answers.

It contains no logic of completions: the core decides what a request means, the dialect how a vendor
writes it, and the rest of this package is independent of any vendor.
"""

from bridge.http_server.app import create_app
from bridge.http_server.connection import connections
from bridge.http_server.context import HttpSettings
from bridge.http_server.dialects import all_dialects

__all__ = ["HttpSettings", "all_dialects", "connections", "create_app"]
