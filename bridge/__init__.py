"""OpenAI-compatible HTTP and gRPC APIs on the operator's own Claude subscription.

`bridge.core` does the work, `bridge.http_server` and `bridge.grpc_server` serve it, and
`bridge.v1` holds the gRPC stubs generated from proto/.
"""

__version__ = "0.1.0"
