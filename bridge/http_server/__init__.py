"""The HTTP server: requests are decoded in their dialect, handed to the core, and answered in it.

It holds no logic of completions: what a request means is the core's business, how a vendor
spells it is its dialect's, and the rest of this package knows no vendor.
"""

from bridge.http_server.app import create_app
from bridge.http_server.connection import connections
from bridge.http_server.context import HttpSettings
from bridge.http_server.dialects import all_dialects

__all__ = ["HttpSettings", "all_dialects", "connections", "create_app"]
