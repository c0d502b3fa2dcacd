"""OpenAI-compatible HTTP and gRPC in front of the Claude subscription of the person who runs it.

`bridge.core` does the work, `bridge.http_server` and `bridge.grpc_server` are the two doors to
it, and `bridge.v1` holds the gRPC stubs, generated from proto/.
"""

__version__ = "0.1.0"
