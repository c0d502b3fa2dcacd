"""The running server: settings, addresses, TLS, and the supervisor.

A command that only needs the settings imports neither gRPC nor FastAPI.
"""

from typing import TYPE_CHECKING

from bridge.lazy_face import lazy_face

if TYPE_CHECKING:
    from bridge.server.addresses import (
        Address,
        ListenError,
        Tcp,
        Unix,
        grpc_address,
        http_address,
        http_api_url,
        local_address,
        local_url,
        plan_listening,
    )
    from bridge.server.front_ends import access_of, key_store, redis_link
    from bridge.server.launching import claude_cli, make_launcher, named_payers
    from bridge.server.refusals import write_refusals
    from bridge.server.reloading import reload
    from bridge.server.settings import Settings
    from bridge.server.settings_errors import CLIENT_KEY, unknown_variables, wrong_values
    from bridge.server.start_error import StartError
    from bridge.server.supervisor import Bridge, FrontEnds, serving
    from bridge.server.tls import Tls, first_certificate, own_client_context, read_tls
else:
    __getattr__ = lazy_face(
        __name__,
        {
            "addresses": (
                "Address",
                "ListenError",
                "Tcp",
                "Unix",
                "grpc_address",
                "http_address",
                "http_api_url",
                "local_address",
                "local_url",
                "plan_listening",
            ),
            "front_ends": ("access_of", "key_store", "redis_link"),
            "launching": (
                "claude_cli",
                "make_launcher",
                "named_payers",
            ),
            "refusals": ("write_refusals",),
            "reloading": ("reload",),
            "settings": ("Settings",),
            "settings_errors": (
                "CLIENT_KEY",
                "unknown_variables",
                "wrong_values",
            ),
            "start_error": ("StartError",),
            "supervisor": (
                "Bridge",
                "FrontEnds",
                "serving",
            ),
            "tls": (
                "Tls",
                "first_certificate",
                "own_client_context",
                "read_tls",
            ),
        },
    )

__all__ = [
    "CLIENT_KEY",
    "Address",
    "Bridge",
    "FrontEnds",
    "ListenError",
    "Settings",
    "StartError",
    "Tcp",
    "Tls",
    "Unix",
    "access_of",
    "claude_cli",
    "first_certificate",
    "grpc_address",
    "http_address",
    "http_api_url",
    "key_store",
    "local_address",
    "local_url",
    "make_launcher",
    "named_payers",
    "own_client_context",
    "plan_listening",
    "read_tls",
    "redis_link",
    "reload",
    "serving",
    "unknown_variables",
    "write_refusals",
    "wrong_values",
]
