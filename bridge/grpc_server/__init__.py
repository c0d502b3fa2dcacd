"""The gRPC server: decodes calls, asks the core, encodes its events. Nothing is decided here."""

import os

# gRPC's fork handlers stall or break a program that starts children, as the bridge does with
# the CLI. gRPC reads this once, when it is first imported, so it has to be set before that.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from bridge.grpc_server.server import MAX_CONNECTIONS, GrpcServer

__all__ = ["MAX_CONNECTIONS", "GrpcServer"]
